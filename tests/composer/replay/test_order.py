"""The orders of a sequence: each a permutation of the groups; the curriculum is InsCL's, and its reverse is exactly that."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import SpecError
from composer.replay.order import ordered

ORDERS = ("given", "curriculum", "reverse", "random")
few = settings(max_examples=40, deadline=None)

# The published curriculum of sixteen tasks and, as its reverse, the published reverse of it.
INSCL = (
    "Classification", "Text Quality Evaluation", "Code", "Detection", "Sentiment Analysis", "Comprehension", "Closed QA",
    "Extraction", "Dialogue", "Program Execution", "Rewriting", "Open QA", "Misc", "Generation", "Summarization", "Mathematics",
)  # fmt: skip


@st.composite
def sequences(draw):
    """Groups of one to three domains each, and an upper bound for every domain; few values, so that ties come up."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    groups = tuple(tuple(f"g{i}d{k}" for k in range(size)) for i, size in enumerate(sizes))
    return groups, {domain: draw(st.sampled_from([0.1, 0.5, 0.9])) for group in groups for domain in group}


@pytest.mark.parametrize("order", ORDERS)
@given(sequence=sequences(), seed=st.integers(0, 99))
@few
def test_an_order_is_a_permutation_that_the_seed_settles(order, sequence, seed):
    groups, upper = sequence
    found = ordered(groups, order=order, upper=upper, seed=seed)
    assert sorted(found) == sorted(groups)
    assert found == ordered(groups, order=order, upper=upper, seed=seed)
    assert ordered((), order=order, upper=upper, seed=seed) == ()


@given(bounds=st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=1, max_size=8))
@few
def test_a_curriculum_never_rises_and_keeps_ties_as_given(bounds):
    groups = tuple((f"t{i}",) for i in range(len(bounds)))
    found = ordered(groups, order="curriculum", upper=dict(zip([g[0] for g in groups], bounds, strict=True)), seed=0)
    places = [groups.index(group) for group in found]
    for one, next_ in pairwise(places):
        assert bounds[one] > bounds[next_] or (bounds[one] == bounds[next_] and one < next_)


@given(sequence=sequences())
@few
def test_the_reverse_is_the_curriculum_backwards_and_its_reverse_the_curriculum(sequence):
    groups, upper = sequence
    curriculum = ordered(groups, order="curriculum", upper=upper, seed=0)
    reverse = ordered(groups, order="reverse", upper=upper, seed=0)
    assert reverse == tuple(reversed(curriculum))
    assert tuple(reversed(reverse)) == curriculum
    assert ordered(curriculum, order="curriculum", upper=upper, seed=0) == curriculum
    assert ordered(curriculum, order="given", upper=None, seed=0) == curriculum


@given(sequence=sequences(), scale=st.sampled_from([0.25, 2.0, 64.0]))
@few
def test_the_scale_of_the_bounds_does_not_matter(sequence, scale):
    groups, upper = sequence
    scaled = {domain: scale * value for domain, value in upper.items()}
    for order in ("curriculum", "reverse"):
        assert ordered(groups, order=order, upper=scaled, seed=0) == ordered(groups, order=order, upper=upper, seed=0)


def test_only_the_random_order_follows_the_seed():
    groups = tuple((task,) for task in INSCL)
    upper = {task: 1 - i / 16 for i, task in enumerate(INSCL)}
    for order in ("given", "curriculum", "reverse"):
        assert len({ordered(groups, order=order, upper=upper, seed=seed) for seed in range(5)}) == 1
    drawn = [ordered(groups, order="random", upper=None, seed=seed) for seed in range(400)]
    assert len(set(drawn)) == 400
    firsts = [sum(order[0] == group for order in drawn) for group in groups]
    assert max(firsts) < 60  # 25 each on average; 60 is seven standard deviations away
    assert min(firsts) > 0


def test_the_published_order_follows_from_the_bounds_in_any_given_order():
    upper = {task: 90 - 3 * i for i, task in enumerate(INSCL)}
    groups = tuple((task,) for task in sorted(INSCL))
    assert [task for [task] in ordered(groups, order="curriculum", upper=upper, seed=0)] == list(INSCL)
    assert ordered(groups, order="reverse", upper=upper, seed=0)[0] == ("Mathematics",)


def test_ties_and_means_by_hand():
    upper = {"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.5, "e": 0.6}
    groups = (("a",), ("b", "c"), ("d",), ("e",))  # bounds 0.5, 0.5, 0.5, 0.6
    assert ordered(groups, order="curriculum", upper=upper, seed=0) == (("e",), ("a",), ("b", "c"), ("d",))
    assert ordered(groups, order="reverse", upper=upper, seed=0) == (("d",), ("b", "c"), ("a",), ("e",))


@pytest.mark.parametrize("order", ["curriculum", "reverse"])
def test_missing_bounds_say_how_to_get_them(order):
    says = rf"upper_bounds: the order {order} needs every domain's upper bound; .*none for b, c; set upper_bounds in the recipe"
    with pytest.raises(SpecError, match=says) as caught:
        ordered((("a", "b"), ("c",)), order=order, upper={"a": 1.0}, seed=0)
    assert "`evaluate: {experts: true}`" in str(caught.value)
    assert "`sft-composer show retention`" in str(caught.value)
    with pytest.raises(SpecError, match="none for a, b, c"):
        ordered((("a", "b"), ("c",)), order=order, upper=None, seed=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bound_that_is_no_score_is_refused(value):
    with pytest.raises(SpecError, match=rf"upper_bounds: an upper bound is not finite; expected a score; got b {value}"):
        ordered((("a",), ("b",)), order="curriculum", upper={"a": 0.5, "b": value}, seed=0)
