"""One battery for every selector: a permutation, blind to the order of rows, deterministic, within its cap on clusters."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import composer.select
from composer.candidates import Candidates
from composer.errors import InputError, SpecError
from composer.select import SELECTORS
from composer.spec import member
from composer.types import SelectContext

few = settings(max_examples=15, deadline=None)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=8)
FIELDS = {"top": {"score": "insinfo"}}  # what a member must be told
NOTHING = SelectContext()


def made(word, **fields):
    return SELECTORS[word](**FIELDS.get(word, {}), **fields)


@pytest.mark.parametrize("word", SELECTORS)
def test_a_selector_is_one_file_named_as_its_word_and_says_what_it_is(word):
    cls = SELECTORS[word]
    assert (Path(composer.select.__file__).parent / f"{word}.py").is_file()
    assert cls.model_fields["name"].default == word
    assert cls.summary
    assert cls.reference
    assert cls.needs <= {field.name for field in dataclasses.fields(SelectContext)}
    assert type(member({"name": word, **FIELDS.get(word, {})}, SELECTORS, kind="selector")) is cls


@pytest.mark.parametrize("word", SELECTORS)
@given(sizes=SIZES, data=st.data())
@few
def test_the_order_is_a_permutation_whatever_the_order_of_the_rows(word, world, sizes, data):
    frame = world.rows(sizes)
    context = world.everything(frame)
    selector = made(word, max_cluster_share=data.draw(st.sampled_from([None, 0.3])))
    n = data.draw(st.integers(0, frame.height + 3))
    turned = data.draw(st.permutations(range(frame.height)))
    order = selector.order(frame, context=context, n=n, seed=3)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(frame.height))
    again = dataclasses.replace(
        context,
        **{f.name: table.reverse() for f in dataclasses.fields(context) if (table := getattr(context, f.name)) is not None},
    )
    turned_order = selector.order(frame[list(turned)], context=again, n=n, seed=3)
    assert frame[list(turned)][turned_order]["sample_id"].to_list() == frame[order]["sample_id"].to_list()
    candidates = Candidates(frame)
    of_candidates = candidates.rows[selector.order(candidates, context=context, n=n, seed=3)]
    assert of_candidates["sample_id"].to_list() == frame[order]["sample_id"].to_list()


@pytest.mark.parametrize("word", SELECTORS)
def test_the_seed_decides_and_nothing_else(word, world):
    frame = world.rows([20, 10])
    context = world.everything(frame)
    one, same, other = (made(word).order(frame, context=context, n=10, seed=seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("word", SELECTORS)
def test_a_domain_without_rows_has_an_empty_order(word, world):
    assert made(word).order(world.rows([]), context=NOTHING, n=5, seed=1).tolist() == []
    assert made(word).order(Candidates(world.rows([])), context=NOTHING, n=5, seed=1).tolist() == []


@pytest.mark.parametrize("word", SELECTORS)
def test_a_domain_of_one_row_gives_it(word, world):
    frame = world.rows([1])
    assert made(word, max_cluster_share=0.5).order(frame, context=world.everything(frame), n=1, seed=1).tolist() == [0]


@pytest.mark.parametrize(("word", "field"), [(word, field) for word in SELECTORS for field in sorted(SELECTORS[word].needs)])
def test_what_a_selector_needs_is_an_error_when_absent(word, field, world):
    frame = world.rows([3, 2])
    context = dataclasses.replace(world.everything(frame), **{field: None})
    with pytest.raises(SpecError, match=f"select {word}: needs {field}, which this run does not have; .* needs none"):
        made(word).order(frame, context=context, n=2, seed=1)


@pytest.mark.parametrize("word", SELECTORS)
def test_what_a_selector_does_not_need_may_be_absent(word, world):
    frame = world.rows([3, 2])
    wanted = SELECTORS[word].needs | ({"instruction_scores"} if word == "instruction" else set())
    given_ = world.everything(frame)
    only = dataclasses.replace(NOTHING, **{field: getattr(given_, field) for field in wanted})
    every = made(word).order(frame, context=given_, n=2, seed=1)
    assert made(word).order(frame, context=only, n=2, seed=1).tolist() == every.tolist()


@pytest.mark.parametrize("word", SELECTORS)
@given(sizes=SIZES, share=st.floats(0.01, 1), data=st.data())
@few
def test_no_cluster_gives_more_than_its_cap_while_the_others_have_rows(word, world, sizes, share, data):
    frame = world.rows(sizes)
    labels = data.draw(st.lists(st.integers(-1, 2), min_size=len(sizes), max_size=len(sizes)))
    n = data.draw(st.integers(1, frame.height))
    context = dataclasses.replace(world.everything(frame), clusters=world.clusters(labels))
    free = made(word).order(frame, context=context, n=n, seed=5).tolist()
    capped = made(word, max_cluster_share=share).order(frame, context=context, n=n, seed=5).tolist()
    own = {f"i{i}": label if label >= 0 else f"i{i}" for i, label in enumerate(labels)}
    cluster = [own[i] for i in frame["instruction_id"]]
    cap = math.ceil(share * n - 1e-9)
    supply = sum(min(cap, size) for size in Counter(cluster).values())
    taken = Counter(cluster[i] for i in capped[: min(n, supply)])
    assert max(taken.values()) <= cap
    head, tail = capped[:supply], capped[supply:]  # within the cap, and what is over it: both as they were ranked
    assert head == sorted(head, key=free.index)
    assert tail == sorted(tail, key=free.index)
    if max(Counter(cluster[i] for i in free).values()) <= cap:
        assert capped == free


def test_what_is_over_the_cap_moves_behind_and_fills_up_where_the_others_have_no_more(world):
    frame = world.rows([6, 2])
    context = SelectContext(scores=world.scores(frame, {"i0": 2, "i1": 1}), clusters=world.clusters([0, 1]))
    by_score = SELECTORS["top"](score="insinfo", max_cluster_share=0.5)
    order = by_score.order(frame, context=context, n=4, seed=1)
    assert frame[order]["instruction_id"].to_list() == ["i0", "i0", "i1", "i1", "i0", "i0", "i0", "i0"]
    order = by_score.order(frame, context=context, n=8, seed=1)
    assert frame[order]["instruction_id"].to_list() == ["i0", "i0", "i0", "i0", "i1", "i1", "i0", "i0"]


def test_noise_is_no_cluster_and_a_share_that_is_whole_but_for_rounding_is_whole(world):
    frame = world.rows([5] * 6)
    context = SelectContext(clusters=world.clusters([-1] * 6))
    taken = world.picked(SELECTORS["uniform"](max_cluster_share=0.1), frame, context, 30)
    assert taken == [5] * 6  # 0.1 * 30 is 3.0000000000000004 in floats: a cap of 3 leaves rows behind, none is lost
    order = SELECTORS["uniform"](max_cluster_share=0.1).order(frame, context=context, n=30, seed=1)
    assert frame[order[:18]]["instruction_id"].value_counts()["count"].to_list() == [3] * 6


def test_a_cap_needs_clusters_of_every_instruction(world):
    frame, capped = world.rows([2, 2]), SELECTORS["uniform"](max_cluster_share=0.5)
    with pytest.raises(SpecError, match=r"select uniform: needs clusters.*give the recipe a clusterer"):
        capped.order(frame, context=NOTHING, n=2, seed=1)
    with pytest.raises(InputError, match=r"instruction_id without cluster; expected one row for each; got none for 1 of 2"):
        capped.order(frame, context=SelectContext(clusters=world.clusters([0])), n=2, seed=1)
    twice = pl.concat([world.clusters([0, 1]), world.clusters([1])])
    with pytest.raises(InputError, match=r"select.max_cluster_share: instruction_id with several rows of cluster"):
        capped.order(frame, context=SelectContext(clusters=twice), n=2, seed=1)


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_cap_is_a_share_above_zero(share):
    with pytest.raises(SpecError, match="max_cluster_share: input should be"):
        SELECTORS["uniform"](max_cluster_share=share)


def test_uniform_takes_every_row_first_equally_often(world):
    frame = world.rows([5])
    first = [SELECTORS["uniform"]().order(frame, context=NOTHING, n=1, seed=seed)[0] for seed in range(500)]
    assert np.bincount(first, minlength=5).min() > 60
