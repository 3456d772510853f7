"""Figures of a judge on held-out texts, against their formulas worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, log_loss

from composer.errors import ModelError
from probes.knowledge.judges.held_out import HeldOut


def some(n: int, *, seed: int, n_domains: int = 3) -> HeldOut:
    random = np.random.default_rng(seed)
    label = np.append(np.arange(n_domains), random.choice(n_domains, p=[0.6, 0.3, 0.1], size=n))
    return HeldOut(random.dirichlet(np.ones(n_domains), size=len(label)), label)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 1000))
def test_figures_agree_with_scikit_learn(n: int, seed: int) -> None:
    held_out = some(n, seed=seed)
    assert held_out.weight.sum() == pytest.approx(1)
    assert held_out.accuracy == pytest.approx(balanced_accuracy_score(held_out.label, held_out.probability.argmax(axis=1)))
    expected = log_loss(held_out.label, held_out.probability, sample_weight=held_out.weight)
    assert held_out.log_loss == pytest.approx(expected)
    assert held_out.confusion.sum(axis=0) == pytest.approx(1)
    assert 0 <= held_out.calibration_error <= 1


def test_the_calibration_error_is_the_gap_in_each_bin() -> None:
    sure = np.array([[0.95, 0.05]] * 4 + [[0.35, 0.65]] * 4)
    label = np.array([0, 0, 0, 1, 1, 1, 0, 1])  # 3 of 4 right where 0.95 was said, 3 of 4 where 0.65 was
    assert HeldOut(sure, label).calibration_error == pytest.approx(0.5 * (0.95 - 0.75) + 0.5 * (0.75 - 0.65))


def test_a_judge_that_means_what_it_says_has_a_small_calibration_error() -> None:
    random = np.random.default_rng(0)
    probability = random.dirichlet(np.ones(3), size=20_000)
    label = (random.random((20_000, 1)) > probability.cumsum(axis=1)).sum(axis=1)
    assert HeldOut(probability, label).calibration_error < 0.02
    assert HeldOut(probability**3 / (probability**3).sum(axis=1, keepdims=True), label).calibration_error > 0.1


def test_a_probability_of_zero_is_no_infinite_loss() -> None:
    assert np.isfinite(HeldOut(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0, 1])).log_loss)


@pytest.mark.parametrize(("right", "refused"), [(5, True), (6, True), (7, False)])
def test_chance_is_refused_with_the_number(right: int, refused: bool) -> None:
    label = np.repeat([0, 1, 2], 4)
    found = label.copy()
    found[right:] = (label[right:] + 1) % 3
    held_out = HeldOut(np.eye(3)[found], label)
    assert held_out.accuracy == pytest.approx(right / 12)
    if not refused:
        return held_out.refuse_chance()
    with pytest.raises(ModelError, match=rf"expected above 0.500; got accuracy {right / 12:.3f} over 3 domains"):
        held_out.refuse_chance()
    return None
