"""A schedule keeps the budget, restricts the mixture to each group, and replays what was learned before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import InputError, SpecError
from composer.replay import REPLAY
from composer.replay.schedule import plan
from composer.types import Budget, Mixture

DOMAINS = ("a", "b", "c", "d")
MIXTURE = Mixture(domains=DOMAINS, weights=(0.4, 0.3, 0.2, 0.1), unit="samples", law="explicit")
SUPPLY = {"a": 1000, "b": 600, "c": 400, "d": 2000, "old": 150}


def planned(groups, *, policy="none", amount=None, earlier=(), per_task=None, **changes):
    fields = {} if per_task is None else {"per_task": per_task}
    given_ = {
        "mixture": MIXTURE,
        "supply": SUPPLY,
        "earlier": earlier,
        "policy": REPLAY[policy](**fields),
        "budget": Budget(amount=amount, unit="samples"),
        "similarity": None,
    }
    return plan(groups, **{**given_, **changes})


def test_one_group_is_the_mixture_itself():
    schedule = planned([DOMAINS], amount=1000)
    (phase,) = schedule.phases
    assert schedule.total == 1000
    assert phase.name == "a+b+c+d"
    assert phase.current == phase.mixture.domains == DOMAINS
    np.testing.assert_allclose(phase.mixture.weights, MIXTURE.weights, rtol=1e-14)
    assert (phase.mixture.unit, phase.mixture.law) == ("samples", "explicit")


def test_without_an_amount_the_budget_is_the_supply_of_what_has_weight():
    assert planned([DOMAINS]).total == 4000
    only = Mixture(domains=DOMAINS, weights=(0.5, 0, 0.5, 0), unit="samples")
    assert planned([DOMAINS], mixture=only).total == 1400
    assert [phase.amount for phase in planned([("a", "b"), ("c",)]).phases] == [1600, 400]


@given(amount=st.integers(10, 10**7))
@settings(max_examples=25, deadline=None)
def test_the_new_data_of_all_groups_is_the_budget_in_proportion_to_supply(amount):
    amounts = [phase.amount for phase in planned([("b",), ("a", "c"), ("d",)], amount=amount).phases]
    assert sum(amounts) == amount
    np.testing.assert_allclose(amounts, np.array([600, 1400, 2000]) / 4000 * amount, atol=1)


def test_each_group_has_the_mixture_restricted_to_it():
    first, second = planned([("a", "c"), ("b", "d")]).phases
    np.testing.assert_allclose(first.mixture.weights, [2 / 3, 1 / 3], rtol=1e-14)
    np.testing.assert_allclose(second.mixture.weights, [0.75, 0.25], rtol=1e-14)
    assert (first.name, second.name) == ("a+c", "b+d")


def test_replay_comes_on_top_and_grows_with_what_was_learned():
    schedule = planned([("a",), ("b",), ("c", "d")], policy="random", per_task=50, amount=800, earlier=("old",))
    new = [phase.amount - 50 * (i + 1) for i, phase in enumerate(schedule.phases)]
    assert new == [200, 120, 480]
    last = schedule.phases[2]
    assert last.mixture.domains == ("c", "d", "old", "a", "b")
    assert last.current == ("c", "d")
    np.testing.assert_allclose(np.array(last.mixture.weights) * last.amount, [320, 160, 50, 50, 50], rtol=1e-12)


def test_replay_is_cut_by_what_is_there_once():
    schedule = planned([("b",)], policy="random", per_task=200, earlier=("old",), amount=1000)
    np.testing.assert_allclose(np.array(schedule.phases[0].mixture.weights) * 1150, [1000, 150], rtol=1e-12)


def test_a_domain_that_was_never_trained_on_does_not_come_back():
    skipping = Mixture(domains=DOMAINS, weights=(0.5, 0, 0.5, 0), unit="samples")
    schedule = planned([("a", "b"), ("c",)], policy="random", per_task=10, mixture=skipping)
    assert schedule.phases[1].mixture.domains == ("c", "a")


def test_without_replay_no_earlier_domain_is_mixed_in():
    assert planned([("a",), ("b",)], earlier=("old",)).phases[1].mixture.domains == ("b",)


@pytest.mark.parametrize(
    ("groups", "changes", "match"),
    [
        ([], {}, "at least one domain in every group"),
        ([("a",), ()], {}, "at least one domain in every group"),
        ([("a",), ("b", "a")], {}, "a domain has two places in the sequence; got a"),
        ([("a",)], {"earlier": ("a",)}, "a domain has two places in the sequence; got a"),
        ([("x",)], {}, "the mixture has no such domain; got x; known: a, b, c, d"),
        ([("a",)], {"earlier": ("gone",)}, "the supply of a domain is not known; got gone"),
        ([("a",)], {"supply": {"a": 0}}, "a group of domains has no data; got a"),
        ([("a",), ("b",)], {"amount": 1}, "budget.amount: the budget leaves a group nothing; got b"),
        ([("a",), ("b",)], {"mixture": Mixture(domains=("a", "b"), weights=(1, 0), unit="samples")}, "no weight; got b"),
    ],
)
def test_sequences_that_cannot_be_are_refused(groups, changes, match):
    with pytest.raises(InputError, match=match):
        planned(groups, **changes)


def test_the_mixture_and_the_budget_share_a_unit():
    with pytest.raises(SpecError, match=r"budget.unit: .* expected samples; got tokens"):
        planned([("a",)], budget=Budget(unit="tokens"))


def test_a_policy_without_its_distances_says_so():
    with pytest.raises(SpecError, match="replay distance: needs similarity"):
        planned([("a",), ("b",)], policy="distance")
