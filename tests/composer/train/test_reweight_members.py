"""Every law of training to the digit, and at its edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import SpecError
from composer.train.reweight import REWEIGHTING, Move
from tests.composer.train.looking import NAN, law, look

few = settings(max_examples=40, deadline=None)


def test_potential_to_the_digit() -> None:
    seen = look([1, 1, 1, 1], [2.0, 1.5, 1.0, 0.8], reference=[1.0, 1.2, 1.0, 1.0])
    move = law("potential").move(seen)
    np.testing.assert_allclose(move.told["potential"], [0.5, 0.2, 0, 0], atol=1e-15)
    np.testing.assert_allclose(move.weights, [0.319149, 0.255319, 0.212766, 0.212766], atol=5e-7)


@given(weights=st.lists(st.floats(0.1, 1), min_size=2, max_size=6), loss=st.floats(1, 5))
@few
def test_no_sigma_or_equal_potentials_leave_the_weights_alone(weights: list[float], loss: float) -> None:
    k, shares = len(weights), np.array(weights) / np.sum(weights)
    equal, unequal = look(weights, [loss] * k), look(weights, np.linspace(1, 5, k))
    np.testing.assert_allclose(law("potential", floor=0).move(equal).weights, shares, rtol=1e-12)
    np.testing.assert_allclose(law("potential", floor=0, sigma=0).move(unequal).weights, shares, rtol=1e-12)


@pytest.mark.parametrize(("loss", "reference"), [(NAN, 1.0), (0.0, 0.0), (1.0, NAN), (0.5, 1.0)])
def test_a_domain_of_undefined_potential_moves_by_the_others_alone(loss: float, reference: float) -> None:
    move = law("potential").move(look([1, 1, 1], [loss, 2.0, 2.0], reference=[reference, 1.0, 2.0]))
    assert move.told["potential"].tolist() == [0.0, 0.5, 0.0]
    np.testing.assert_allclose(move.weights, np.array([1, 1.5, 1]) / 3.5, rtol=1e-14)


def test_the_released_rule_reads_references_only_where_there_are_some() -> None:
    rule = law("potential", rule="exp")
    assert not rule.needs
    with_reference = rule.move(look([0.5, 0.3, 0.2], np.array([0, np.log(2), 0]) + 1, reference=[1, 1, 1]))
    np.testing.assert_allclose(with_reference.weights, [0.384615, 0.461538, 0.153846], atol=5e-7)
    without = rule.move(look([0.5, 0.3, 0.2], np.array([0, np.log(2), 0]) + 7, reference=None))
    np.testing.assert_allclose(without.weights, with_reference.weights, rtol=1e-12)


def test_the_released_rule_leaves_out_whose_loss_is_no_number() -> None:
    move = law("potential", rule="exp").move(look([0.5, 0.3, 0.2], [NAN, 1.0 + np.log(2), 1.0], reference=None))
    np.testing.assert_allclose(move.weights, [0.5, 0.375, 0.125], rtol=1e-14)
    nothing = law("potential", rule="exp").move(look([0.5, 0.3, 0.2], [NAN] * 3, reference=None))
    assert nothing.weights.tolist() == [0.5, 0.3, 0.2]


def test_what_a_floor_keeps_can_come_back() -> None:
    seen = look([1, 0], [1.0, 10.0])
    assert law("potential", floor=0).move(seen).weights.tolist() == [1.0, 0.0]
    weights = law("potential", floor=0.02).start([1, 0], seen.domains)
    for _ in range(5):
        weights = law("potential", floor=0.02).move(look(weights, [1.0, 10.0])).weights
    assert weights[1] > 0.3


# Progress.


def test_progress_to_the_digit_and_smoothed() -> None:
    rule = law("progress", sigma=0.5, alpha=0.5, floor=0)
    first = rule.move(look([0.5, 0.25, 0.25], [1.0, 1.0, 1.1], previous=[1.2, 1.0, 1.0]))
    np.testing.assert_allclose(first.told["progress"], [0.4, 0.0, -0.4], atol=1e-12)
    np.testing.assert_allclose(first.weights, np.array([0.75, 0.25, 0.125]) / 1.125, rtol=1e-12)
    again = rule.move(look([0.5, 0.25, 0.25], [1.0, 0.9, 1.1], previous=[1.0, 1.0, 1.1], memory=first.memory))
    np.testing.assert_allclose(again.told["progress"], [0.2, 0.2, -0.2], atol=1e-12)


def test_a_domain_that_is_trained_too_much_loses_weight_by_progress_and_gains_by_potential() -> None:
    seen = look([0.5, 0.5], [1.3, 1.0], previous=[1.2, 1.1], reference=[1.0, 1.0])
    assert law("progress").move(seen).weights[0] < 0.5 < law("potential").move(seen).weights[0]


def test_a_share_of_nearly_nothing_does_not_overflow() -> None:
    move = law("progress", floor=0.0).move(look([1, 5e-324], [1.0, 0.0], previous=[1.5, 1.0]))
    assert np.isfinite(move.told["progress"]).all()
    assert move.weights.sum() == pytest.approx(1)


def test_without_progress_anywhere_weights_rest() -> None:
    for loss in ([1.0, 1.0], [NAN, NAN]):
        assert law("progress").move(look([0.7, 0.3], loss, previous=[1.0, 1.0])).weights.tolist() == [0.7, 0.3]


# Expansion.


def expansion(weights: Any, loss: Any, **fields: Any) -> Move:
    seen = {name: fields.pop(name) for name in ("previous", "reference") if name in fields}
    return law("expansion", **{"floor": 0, "delta": 0.1, **fields}).move(look(weights, loss, **seen))  # type: ignore[no-any-return]


def test_expansion_to_the_digit() -> None:
    move = expansion([0.4, 0.3, 0.2, 0.1], [2.0] * 4)
    assert move.state == "raised"
    np.testing.assert_allclose(move.weights, [0.5, 0.25, 1 / 6, 1 / 12], rtol=1e-14)
    assert move.told["potential"].tolist() == [0.5] * 4
    assert move.told["forgetting"].tolist() == [0.0] * 4
    np.testing.assert_allclose(expansion([0.4, 0.3, 0.2, 0.1], [2.0] * 4, delta=0).weights, [0.4, 0.3, 0.2, 0.1], rtol=1e-14)


def test_the_target_rises_where_the_others_forget_less_than_it_can_learn() -> None:
    loss, previous = [2.0, 1.5, 1.0], [2.0, 1.0, 1.0]  # gamma of d0 is a half, phi of the others a half and zero
    assert expansion([1, 1, 1], loss, previous=previous).state == "raised"
    assert expansion([1, 1, 1], loss, previous=previous, eps=0.5001).state == "raised"
    held = expansion([1, 1, 1], loss, previous=previous, eps=0.5)
    assert held.state == "held"
    np.testing.assert_allclose(held.weights, np.array([1.5, 4 / 3, 1]) / (1.5 + 4 / 3 + 1), rtol=1e-14)
    assert held.told["forgetting"].tolist() == [0.0, 0.5, 0.0]
    still = expansion([1, 1, 1], loss, previous=previous, eps=0.5, sigma=0)
    np.testing.assert_allclose(still.weights, [1 / 3] * 3, rtol=1e-14)


def test_the_targets_own_forgetting_does_not_count() -> None:
    assert expansion([1, 1], [4.0, 1.0], previous=[1.0, 1.0]).state == "raised"


def test_a_target_that_was_held_is_raised_again_once_the_others_forget_little() -> None:
    rule, weights, states = law("expansion", delta=0.05, eps=0.2), np.array([0.2, 0.8]), []
    for others in (1.0, 1.2, 1.0):
        move = rule.move(look(weights, [2.0, others], previous=[2.0, 1.0]))
        weights, states = move.weights, [*states, move.state]
    assert states == ["raised", "held", "raised"]


@pytest.mark.parametrize("loss", [1.0, 0.5, NAN, 0.0])
def test_a_target_with_nothing_left_to_learn_is_held(loss: float) -> None:
    assert expansion([0.2, 0.8], [loss, 1.0], previous=[1.0, 1.0]).state == "held"


def test_the_target_stops_at_the_cap_or_where_the_others_have_their_floors() -> None:
    near = expansion([0.85, 0.1, 0.05], [2.0] * 3, floor=0.04, delta=0.5)
    assert near.state == "raised"
    np.testing.assert_allclose(near.weights, [0.92, 0.04, 0.04], rtol=1e-12)
    there = expansion(near.weights, [2.0] * 3, floor=0.04, delta=0.5)
    assert there.state == "capped"
    np.testing.assert_allclose(there.weights, near.weights, rtol=1e-12)
    capped = expansion([0.58, 0.32, 0.1], [2.0] * 3, cap=0.6)
    np.testing.assert_allclose(capped.weights, [0.6, 0.4 * 32 / 42, 0.4 * 10 / 42], rtol=1e-12)
    assert expansion([0.6, 0.3, 0.1], [2.0] * 3, cap=0.6).state == "capped"
    assert expansion([1, 0], [2.0] * 2).state == "capped"


def test_a_target_that_is_no_domain_is_refused() -> None:
    with pytest.raises(SpecError, match="target: no such domain; got law2; did you mean 'law1'"):
        law("expansion", target="law2").start([1, 1], ("law1", "code"))
    with pytest.raises(SpecError, match="target: missing field of Expansion"):
        REWEIGHTING["expansion"]()


# Bandit.


def test_bandit_to_the_digit() -> None:
    seen = look([0.25, 0.75], [9.0, 9.0], train_loss=[1.0, 1.5], memory={"updates": 7, "reward": [2.0, 4.0]})
    move = law("bandit", alpha=0.5).move(seen)
    assert move.memory == {"updates": 8, "reward": [3.0, 3.0]}
    assert move.told["exploration"].tolist() == [np.sqrt(np.log(2) / 16)] * 2
    assert move.weights.tolist() == [0.5, 0.5]
    unlike = law("bandit", alpha=0.5).move(look([1, 1], [9.0, 9.0], train_loss=[2.0, 1.0], memory=seen.memory))
    now, before = np.sqrt(np.log(2) / 16), np.sqrt(np.log(2) / 14)
    gain = np.exp(before * np.array([3.0, 3.0]))
    np.testing.assert_allclose(unlike.weights, (1 - 2 * now) * gain / gain.sum() + now, rtol=1e-14)


def test_a_bandit_begins_by_exploring_and_then_prefers_high_losses() -> None:
    rule, weights, memory, shares = law("bandit", floor=0), np.full(6, 1 / 6), {}, []
    for _ in range(200):
        move = rule.move(look(weights, [1.0] * 6, train_loss=[3.0, 1.0, 1.0, 1.0, 1.0, 1.0], memory=memory))
        weights, memory = move.weights, dict(move.memory)
        shares.append(weights[0])
    assert shares[0] == pytest.approx(1 / 6)  # sqrt(ln 6 / 6) is above 1 / 6
    assert shares[-1] == weights.max() > 1 / 6
    assert weights.min() >= np.sqrt(np.log(6) / (6 * 200))


def test_a_domain_that_was_not_trained_on_keeps_its_reward() -> None:
    memory = {"updates": 1, "reward": [1.0, 2.0, 3.0]}
    move = law("bandit").move(look([1, 1, 0], [1.0] * 3, train_loss=[NAN, 2.0, 5.0], memory=memory))
    assert move.memory["reward"][0] == 1.0
    assert move.memory["reward"][1] == pytest.approx(0.9 * 2 + 0.1 * 4)
    assert move.memory["reward"][2] == 3.0


# Excess.


@given(loss=st.lists(st.floats(0, 10), min_size=2, max_size=6), rate=st.floats(0, 3), smoothing=st.floats(0, 1))
@few
def test_excess_is_a_smoothed_exponential_of_what_exceeds(loss: list[float], rate: float, smoothing: float) -> None:
    k = len(loss)
    move = law("excess", floor=0, rate=rate, smoothing=smoothing).move(look(np.ones(k), loss))
    gain = np.exp(rate * np.maximum(np.array(loss) - 1, 0))
    np.testing.assert_allclose(move.weights, (1 - smoothing) * gain / gain.sum() + smoothing / k, rtol=1e-9)
    assert move.weights.min() >= smoothing / k - 1e-12


def test_losses_below_their_reference_all_count_the_same() -> None:
    move = law("excess", smoothing=0).move(look([0.2, 0.3, 0.5], [0.1, 0.9, NAN]))
    np.testing.assert_allclose(move.weights, [0.2, 0.3, 0.5], rtol=1e-14)


# Levels.


def test_levels_are_in_force_from_their_steps_on() -> None:
    rule = law("levels", levels=[[0, {"d0": 2}], [7, {"d0": 1, "d1": 3}], [90, {"d2": 0.1}]], every=10)
    assert [step for step in range(100) if rule.due(step)] == [0, 7, 90]
    at = {step: rule.move(look([1, 1, 1], [NAN] * 3, step=step, previous=None)).weights.tolist() for step in (0, 6, 7, 89, 90)}
    first, second, third = [1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.0, 0.0, 1.0]
    assert at == {0: first, 6: first, 7: second, 89: second, 90: third}


@pytest.mark.parametrize(
    ("levels", "match"),
    [
        ([[5, {"d0": 1}]], r"levels: steps out of order; expected 0 first, then ascending; got \[5\]"),
        ([[0, {"d0": 1}], [9, {"d0": 1}], [9, {"d1": 1}]], "levels: steps out of order"),
        ([[0, {"d0": 1}], [3, {"d0": 0}]], "levels: no domain gets any weight; got step 3"),
        ([[0, {"d0": -1}]], "levels.*greater than or equal to 0"),
        ([], "levels.*at least 1 item"),
    ],
)
def test_levels_that_make_no_sense_are_refused(levels: Any, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        law("levels", levels=levels)


def test_a_level_of_an_unknown_domain_is_refused() -> None:
    with pytest.raises(SpecError, match="levels: no such domain; expected names among a, b; got d0, d1"):
        law("levels").start([1, 1], ("a", "b"))
