"""InsCL's guided sampling: rows follow the scores, with one of each; which rows of an instruction is left to chance."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.candidates import Candidates
from composer.errors import SpecError
from composer.select import SELECTORS
from composer.select.instruction import draw
from composer.spec import rng
from composer.types import SelectContext

NOTHING = SelectContext()
TASKS = Path(__file__).parents[3] / "../shared/data/tasks"
GUIDED = SELECTORS["instruction"]()
SPREAD = SELECTORS["instruction"](score="uniform")


@pytest.fixture(params=["of instructions", "of samples"])
def told(request, world):
    """Return what makes a context of values by instruction, in both forms in which scores may come."""

    def context(frame, values, **name):
        if request.param == "of samples":
            return SelectContext(scores=world.scores(frame, values, **name))
        return SelectContext(instruction_scores=world.instruction_scores(values, **name))

    return context


def test_rows_follow_the_scores_with_one_of_each(world, told):
    frame = world.rows([20, 20, 20, 20])
    context = told(frame, {"i0": np.log(2), "i1": 0, "i2": np.log(2), "i3": 2 * np.log(2)})
    assert world.picked(GUIDED, frame, context, 8) == [2, 1, 2, 3]


def test_an_instruction_gives_at_most_what_it_has(world, told):
    frame = world.rows([2, 50, 50])
    assert world.picked(GUIDED, frame, told(frame, {"i0": 8, "i1": 1, "i2": 1}), 22) == [2, 10, 10]


def test_fewer_rows_than_instructions_are_those_of_the_highest_scores(world, told):
    frame = world.rows([3, 3, 3, 3])
    assert world.picked(GUIDED, frame, told(frame, {"i0": 1, "i1": 4, "i2": 2, "i3": 3}), 2) == [0, 1, 0, 1]


def test_equal_scores_are_taken_by_chance(world):
    frame = world.rows([2] * 6)
    seen = {tuple(world.picked(SPREAD, frame, NOTHING, 3, seed=seed)) for seed in range(20)}
    assert all(sum(pick) == 3 and max(pick) == 1 for pick in seen)
    assert len(seen) > 5


def test_uniform_scores_spread_the_rows_evenly_and_need_no_table(world):
    assert world.picked(SPREAD, world.rows([10, 40, 25]), NOTHING, 9) == [3, 3, 3]
    assert world.picked(SPREAD, world.rows([1, 40, 25]), NOTHING, 9) == [1, 4, 4]


def test_scores_that_are_all_zero_count_as_equal(world, told):
    frame = world.rows([10, 10])
    assert world.picked(GUIDED, frame, told(frame, {"i0": 0, "i1": 0}), 6) == [3, 3]


def test_what_has_no_value_counts_as_zero(world, told):
    frame = world.rows([10, 10, 10])
    assert world.picked(GUIDED, frame, told(frame, {"i0": 2, "i1": 1}), 10) == [6, 3, 1]  # i2 has none


def test_of_several_values_the_largest_counts(world):
    frame = world.rows([10, 10, 10])
    table = world.scores(frame, {"i0": 2, "i1": 1})
    lower = table.with_columns(pl.col("value") / 4)
    for scores in (table.filter(pl.col("sample_id").is_in(frame["sample_id"][[0, 10]])), pl.concat([lower, table])):
        assert world.picked(GUIDED, frame, SelectContext(scores=scores), 10) == [6, 3, 1]


def test_a_score_of_instructions_counts_before_one_of_samples(world):
    frame = world.rows([10, 10])
    of_samples, of_instructions = world.scores(frame, {"i0": 9, "i1": 1}), world.instruction_scores({"i0": 1, "i1": 9})
    assert world.picked(GUIDED, frame, SelectContext(scores=of_samples, instruction_scores=of_instructions), 10) == [1, 9]
    other = world.instruction_scores({"i0": 1, "i1": 9}, name="ifd")
    assert world.picked(GUIDED, frame, SelectContext(scores=of_samples, instruction_scores=other), 10) == [9, 1]


def test_what_candidates_remember_of_one_table_is_not_said_of_another(world, told):
    candidates = Candidates(world.rows([10, 10]))
    one, other = told(candidates.rows, {"i0": 9, "i1": 1}), told(candidates.rows, {"i0": 1, "i1": 9})
    for context, wanted in ((one, 9), (one, 9), (other, 1), (one, 9)):
        order = GUIDED.order(candidates, context=context, n=10, seed=1)
        assert candidates.rows[order[:10]]["instruction_id"].to_list().count("i0") == wanted


def test_which_rows_of_an_instruction_is_left_to_chance(world, told):
    frame = world.rows([4])
    context = told(frame, {"i0": 1})
    first = [GUIDED.order(frame, context=context, n=1, seed=seed)[0] for seed in range(400)]
    assert np.bincount(first, minlength=4).min() > 60


def test_after_the_choice_the_rest_comes_at_random(world, told):
    frame = world.rows([30, 30])
    order = GUIDED.order(frame, context=told(frame, {"i0": 1, "i1": 0}), n=10, seed=1)
    rest = frame[order[10:]]["instruction_id"].to_list()
    assert sorted(rest) != rest
    assert rest.count("i1") == 29


def test_a_named_score_is_read_among_others(world, told):
    frame = world.rows([10, 10])
    one, other = told(frame, {"i0": 9, "i1": 1}, name="ifd"), told(frame, {"i0": 1, "i1": 9})
    both = SelectContext(**{
        field: pl.concat([getattr(one, field), getattr(other, field)])
        for field in ("scores", "instruction_scores")
        if getattr(one, field) is not None
    })  # fmt: skip
    assert world.picked(GUIDED, frame, both, 10) == [1, 9]
    assert world.picked(SELECTORS["instruction"](score="ifd"), frame, both, 10) == [9, 1]


def test_scores_that_were_not_computed_are_refused(world, told):
    frame = world.rows([3])
    with pytest.raises(SpecError, match=r"select.score: no score 'insinfo'; got no scores; set tags in the recipe"):
        GUIDED.order(frame, context=NOTHING, n=2, seed=1)
    with pytest.raises(SpecError, match="no score 'insinfo'; got ifd"):
        GUIDED.order(frame, context=told(frame, {"i0": 1}, name="ifd"), n=2, seed=1)


def test_a_negative_score_is_refused(world, told):
    frame = world.rows([3])
    with pytest.raises(SpecError, match="a negative score is no share; expected 0 or more; got -1"):
        GUIDED.order(frame, context=told(frame, {"i0": -1}), n=2, seed=1)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_as_many_places_of_a_range_are_drawn_as_were_asked_for(data):
    size = np.array(data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=10)))
    quota = np.array([data.draw(st.integers(0, int(room))) for room in size])
    drawn = draw(size, quota, rng(data.draw(st.integers(0, 99)), "draw"))
    assert drawn.shape == (size.sum(),)
    assert [int(part.sum()) for part in np.split(drawn, np.cumsum(size)[:-1])] == quota.tolist()


@pytest.mark.parametrize("quota", [2, 3])  # half and more than half: those it gives are drawn, and those it does not give
def test_every_choice_of_places_is_as_likely_as_any_other(quota):
    n = 3000
    generator = rng(0, "draw")
    seen = [tuple(np.flatnonzero(draw(np.array([4, 2]), np.array([quota, 1]), generator)).tolist()) for _ in range(n)]
    choices = [(*some, last) for some in itertools.combinations(range(4), quota) for last in (4, 5)]
    counted = np.array([seen.count(choice) for choice in choices])
    assert counted.sum() == n
    expected = n / len(choices)
    # The sum has the mean k - 1 and the variance 2 (k - 1) over k choices; six standard deviations are not met by chance.
    assert ((counted - expected) ** 2 / expected).sum() < len(choices) - 1 + 6 * np.sqrt(2 * (len(choices) - 1))


@pytest.mark.skipif(not TASKS.is_dir(), reason="shared/data/tasks is not here")
@pytest.mark.parametrize("task", ["nli", "text_to_sql", "intent_classification"])
def test_rows_of_a_real_task_are_spread_evenly_over_its_wordings(task):
    read = pl.read_parquet(TASKS / f"{task}.parquet").filter(split="train")
    rows = read.select(sample_id="id", instruction_id="instruction")
    assert rows["instruction_id"].n_unique() == 8
    first = rows[SPREAD.order(rows, context=NOTHING, n=200, seed=3)[:200]]
    assert first["instruction_id"].value_counts()["count"].to_list() == [25] * 8
