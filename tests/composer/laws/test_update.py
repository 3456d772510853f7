"""The formulas of VersaTune's second phase, by their identities (methods.md 1e) and their edges (1d.14)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import InputError
from composer.laws.update import exp_update, expansion_step, forgetting_degree, learnable_potential, potential_update

NAN = float("nan")
P = st.lists(st.floats(0.001, 1), min_size=2, max_size=7)
few = settings(max_examples=50, deadline=None)


def shares(values):
    return np.array(values) / np.sum(values)


def test_gamma_of_four_domains():
    gamma = learnable_potential([2.0, 1.5, 1.0, 0.8], [1.0, 1.2, 1.0, 1.0])
    np.testing.assert_allclose(gamma, [0.5, 0.2, 0, 0], atol=1e-15)


@given(loss=st.floats(0, 10), reference=st.floats(0, 10))
@few
def test_gamma_is_zero_below_the_reference_and_below_one_above_it(loss, reference):
    gamma = learnable_potential([loss], [reference])[0]
    assert 0 <= gamma <= 1
    assert gamma == 0 or loss > reference


@pytest.mark.parametrize(("loss", "reference"), [(0.0, 0.0), (0.0, 1.0), (NAN, 1.0), (1.0, NAN), (float("inf"), 1.0)])
def test_an_undefined_gamma_is_zero(loss, reference):
    assert learnable_potential([loss], [reference]).tolist() == [0.0]


def test_phi_of_two_domains():
    np.testing.assert_allclose(forgetting_degree([2.2, 0.9], [2.0, 1.0]), [0.1, 0], atol=1e-15)


@pytest.mark.parametrize(("loss", "previous"), [(1.0, 0.0), (NAN, 1.0), (1.0, NAN)])
def test_an_undefined_phi_is_zero(loss, previous):
    assert forgetting_degree([loss], [previous]).tolist() == [0.0]


def test_losses_of_different_domains_are_refused():
    with pytest.raises(InputError, match="losses of different domains"):
        learnable_potential([1.0, 2.0], [1.0])


def test_potential_update_of_equal_weights():
    updated = potential_update([0.25] * 4, [0.5, 0.2, 0, 0], sigma=1.0)
    np.testing.assert_allclose(updated, [0.319149, 0.255319, 0.212766, 0.212766], atol=5e-7)


@given(p=P, gamma=st.floats(0, 1), sigma=st.floats(0, 5))
@few
def test_equal_potentials_or_no_sigma_leave_the_weights_alone(p, gamma, sigma):
    np.testing.assert_allclose(potential_update(p, [gamma] * len(p), sigma=sigma), shares(p), rtol=1e-12)
    np.testing.assert_allclose(potential_update(p, np.linspace(0, 1, len(p)), sigma=0), shares(p), rtol=1e-12)


@given(gamma=st.lists(st.floats(0, 1), min_size=2, max_size=6), sigma=st.floats(0.1, 3))
@few
def test_more_potential_never_gets_less_weight(gamma, sigma):
    updated = potential_update(np.ones(len(gamma)), gamma, sigma=sigma)
    by_gamma = np.argsort(gamma, kind="stable")
    assert (np.diff(updated[by_gamma]) >= -1e-15).all()
    assert updated.sum() == pytest.approx(1)


def test_a_domain_at_zero_stays_there():
    assert potential_update([0, 1, 1], [1, 0, 0], sigma=1)[0] == 0
    assert exp_update([0, 1, 1], [500, 0, 0]).tolist() == [0.0, 0.5, 0.5]


def test_expansion_keeps_the_ratios_of_the_others():
    step = expansion_step([0.4, 0.3, 0.2, 0.1], target=0, delta=0.1)
    np.testing.assert_allclose(step, [0.5, 0.25, 1 / 6, 1 / 12], rtol=1e-14)
    np.testing.assert_allclose(step[1:] / step[3], [3, 2, 1], rtol=1e-14)


@given(p=P, data=st.data())
@few
def test_no_expansion_is_the_identity(p, data):
    target = data.draw(st.integers(0, len(p) - 1))
    floor = min(shares(p)) * data.draw(st.floats(0, 0.99))
    np.testing.assert_allclose(expansion_step(p, target=target, delta=0, floor=floor), shares(p), rtol=1e-9)


@given(p=P, delta=st.floats(0, 2), share=st.floats(0, 1), data=st.data())
@few
def test_expansion_stays_on_the_simplex_above_the_floor(p, delta, share, data):
    k = len(p)
    target, floor = data.draw(st.integers(0, k - 1)), share / k
    step = expansion_step(p, target=target, delta=delta, floor=floor)
    assert step.sum() == pytest.approx(1)
    assert (step >= floor - 1e-12).all()
    top = 1 - (k - 1) * floor
    assert step[target] == pytest.approx(max(min(shares(p)[target] + delta, top), floor))


def test_expansion_from_everything_spreads_evenly_over_the_floor():
    np.testing.assert_allclose(expansion_step([1, 0, 0], target=0, delta=0.1), [1, 0, 0])
    np.testing.assert_allclose(expansion_step([1, 0, 0], target=0, delta=0.1, floor=0.1), [0.8, 0.1, 0.1], rtol=1e-14)
    np.testing.assert_allclose(expansion_step([1, 0, 0], target=1, delta=0.1), [0.9, 0.1, 0], atol=1e-15)
    assert expansion_step([3], target=0, delta=0.5).tolist() == [1.0]


def test_the_released_rule():
    updated = exp_update([0.5, 0.3, 0.2], [0, np.log(2), 0])
    np.testing.assert_allclose(updated, [0.384615, 0.461538, 0.153846], atol=5e-7)


@given(p=P, shift=st.floats(-700, 700), data=st.data())
@few
def test_a_constant_added_to_every_score_changes_nothing(p, shift, data):
    score = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=len(p), max_size=len(p))))
    np.testing.assert_allclose(exp_update(p, score + shift), exp_update(p, score), rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: potential_update([0, 0], [0, 0], sigma=1), "weights that are no shares"),
        (lambda: potential_update([1, -1], [0, 0], sigma=1), "expected finite numbers, none negative, one above zero"),
        (lambda: potential_update([1, 1], [NAN, 0], sigma=1), "gamma is not finite"),
        (lambda: potential_update([1, 1], [0, 0], sigma=-1), "a potential cannot lower a weight"),
        (lambda: exp_update([1, 1], [NAN, 0]), "score is not finite"),
        (lambda: expansion_step([1, 1], target=2, delta=0.1), "expected target 0 to 1"),
        (lambda: expansion_step([1, 1], target=0, delta=-0.1), "no such expansion"),
        (lambda: expansion_step([1, 1], target=0, delta=0.1, floor=0.6), "floor 0 to 1/2"),
    ],
)
def test_wrong_vectors_are_refused(call, match):
    with pytest.raises(InputError, match=match):
        call()
