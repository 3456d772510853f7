"""One battery for every selector: a permutation, blind to the order of rows, deterministic; then InsCL's guided sampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import composer.select
from composer.errors import SpecError
from composer.select import SELECTORS
from composer.spec import member, rng

few = settings(max_examples=25, deadline=None)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def rows(sizes):
    """Rows of instructions i0, i1, ... of the given sizes, with ids in no order that means anything."""
    instructions = [f"i{i}" for i, size in enumerate(sizes) for _ in range(size)]
    ids = [f"{k:016x}" for k in rng(0, "ids").permutation(10_000)[: len(instructions)]]
    return pl.DataFrame({"sample_id": ids, "instruction_id": instructions}, schema_overrides={"sample_id": pl.String})


def scores(frame, values, *, name="insinfo"):
    by_instruction = pl.DataFrame({"instruction_id": list(values), "value": [float(v) for v in values.values()]})
    joined = frame.join(by_instruction, on="instruction_id")
    return joined.select("sample_id", pl.lit(name).alias("score"), "value")


def picked(selector, frame, table, n, *, seed=7):
    """How many of the first n rows each instruction gives."""
    first = selector.order(frame, scores=table, n=n, seed=seed)[:n]
    counted = frame[first]["instruction_id"].value_counts()
    given_ = dict(counted.iter_rows())
    return [given_.get(i, 0) for i in sorted(frame["instruction_id"].unique(), key=lambda i: int(i[1:]))]


@pytest.mark.parametrize("word", SELECTORS)
def test_a_selector_is_one_file_named_as_its_word_and_says_what_it_is(word):
    cls = SELECTORS[word]
    assert (Path(composer.select.__file__).parent / f"{word}.py").is_file()
    assert cls.model_fields["name"].default == word
    assert cls.summary
    assert cls.reference
    assert type(member(word, SELECTORS, kind="selector")) is cls


@pytest.mark.parametrize("word", SELECTORS)
@given(sizes=SIZES, data=st.data())
@few
def test_the_order_is_a_permutation_whatever_the_order_of_the_rows(word, sizes, data):
    frame = rows(sizes)
    table = scores(frame, {f"i{i}": i for i in range(len(sizes))})
    n = data.draw(st.integers(0, frame.height + 3))
    turned = data.draw(st.permutations(range(frame.height)))
    order = SELECTORS[word]().order(frame, scores=table, n=n, seed=3)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(frame.height))
    again = SELECTORS[word]().order(frame[list(turned)], scores=table.reverse(), n=n, seed=3)
    assert frame[list(turned)][again]["sample_id"].to_list() == frame[order]["sample_id"].to_list()


@pytest.mark.parametrize("word", SELECTORS)
def test_the_seed_decides_and_nothing_else(word):
    frame = rows([20, 10])
    table = scores(frame, {"i0": 1, "i1": 1})
    one, same, other = (SELECTORS[word]().order(frame, scores=table, n=10, seed=seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("word", SELECTORS)
def test_a_domain_without_rows_has_an_empty_order(word):
    assert SELECTORS[word]().order(rows([]), scores=None, n=5, seed=1).tolist() == []


def test_uniform_takes_every_row_first_equally_often():
    frame = rows([5])
    first = [SELECTORS["uniform"]().order(frame, scores=None, n=1, seed=seed)[0] for seed in range(500)]
    assert np.bincount(first, minlength=5).min() > 60


GUIDED = SELECTORS["instruction"]()
SPREAD = SELECTORS["instruction"](score="uniform")


def test_rows_follow_the_scores_with_one_of_each():
    frame = rows([20, 20, 20, 20])
    table = scores(frame, {"i0": np.log(2), "i1": 0, "i2": np.log(2), "i3": 2 * np.log(2)})
    assert picked(GUIDED, frame, table, 8) == [2, 1, 2, 3]


def test_an_instruction_gives_at_most_what_it_has():
    frame = rows([2, 50, 50])
    assert picked(GUIDED, frame, scores(frame, {"i0": 8, "i1": 1, "i2": 1}), 22) == [2, 10, 10]


def test_fewer_rows_than_instructions_are_those_of_the_highest_scores():
    frame = rows([3, 3, 3, 3])
    assert picked(GUIDED, frame, scores(frame, {"i0": 1, "i1": 4, "i2": 2, "i3": 3}), 2) == [0, 1, 0, 1]


def test_equal_scores_are_taken_by_chance():
    frame = rows([2] * 6)
    seen = {tuple(picked(SPREAD, frame, None, 3, seed=seed)) for seed in range(20)}
    assert all(sum(pick) == 3 and max(pick) == 1 for pick in seen)
    assert len(seen) > 5


def test_uniform_scores_spread_the_rows_evenly_and_need_no_table():
    assert picked(SPREAD, rows([10, 40, 25]), None, 9) == [3, 3, 3]
    assert picked(SPREAD, rows([1, 40, 25]), None, 9) == [1, 4, 4]


def test_scores_that_are_all_zero_count_as_equal():
    frame = rows([10, 10])
    assert picked(GUIDED, frame, scores(frame, {"i0": 0, "i1": 0}), 6) == [3, 3]


def test_rows_without_a_value_count_as_zero_and_the_largest_value_counts():
    frame = rows([10, 10, 10])
    table = scores(frame, {"i0": 2, "i1": 1})  # i2 has none
    assert picked(GUIDED, frame, table, 10) == [6, 3, 1]
    only_one_row = table.filter(pl.col("sample_id").is_in(frame["sample_id"][[0, 10]]))
    assert picked(GUIDED, frame, only_one_row, 10) == [6, 3, 1]


def test_which_rows_of_an_instruction_is_left_to_chance():
    frame = rows([4])
    first = [GUIDED.order(frame, scores=scores(frame, {"i0": 1}), n=1, seed=seed)[0] for seed in range(400)]
    assert np.bincount(first, minlength=4).min() > 60


def test_after_the_choice_the_rest_comes_at_random():
    frame = rows([30, 30])
    table = scores(frame, {"i0": 1, "i1": 0})
    order = GUIDED.order(frame, scores=table, n=10, seed=1)
    rest = frame[order[10:]]["instruction_id"].to_list()
    assert sorted(rest) != rest
    assert rest.count("i1") == 29


def test_a_named_score_is_read_among_others():
    frame = rows([10, 10])
    both = pl.concat([scores(frame, {"i0": 9, "i1": 1}, name="ifd"), scores(frame, {"i0": 1, "i1": 9})])
    assert picked(GUIDED, frame, both, 10) == [1, 9]
    assert picked(SELECTORS["instruction"](score="ifd"), frame, both, 10) == [9, 1]


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (None, "select.score: no score 'insinfo'; got no scores; set tags in the recipe"),
        ({"name": "ifd", "value": 1}, "no score 'insinfo'; got ifd"),
        ({"name": "insinfo", "value": -1}, "a negative score is no share; expected 0 or more; got -1"),
    ],
)
def test_scores_that_cannot_guide_are_refused(table, match):
    frame = rows([3])
    made = None if table is None else scores(frame, {"i0": table["value"]}, name=table["name"])
    with pytest.raises(SpecError, match=match):
        GUIDED.order(frame, scores=made, n=2, seed=1)
