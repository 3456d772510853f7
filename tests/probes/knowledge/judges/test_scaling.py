"""Calibration finds the slope and the offsets by which answers were bent, and prefers no answer afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.knowledge.judges.held_out import HeldOut
from probes.knowledge.judges.scaling import Scaling, cross_fit, learn, log_softmax


def answers(n: int, *, seed: int, n_domains: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probabilities that are exact for balanced domains, and the labels: evidence is normal around the label."""
    random = np.random.default_rng(seed)
    label = np.repeat(np.arange(n_domains), n)
    seen = np.eye(n_domains)[label] + random.normal(size=(len(label), n_domains))
    return log_softmax(seen), label


def test_exact_answers_are_left_as_they_are() -> None:
    scaling = learn(*answers(20_000, seed=1), offsets=True)
    assert scaling.slope == pytest.approx(1, abs=0.03)
    assert scaling.offset == pytest.approx(0, abs=0.03)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 5), st.lists(st.floats(-4, 4), min_size=3, max_size=3), st.integers(0, 100))
def test_what_bent_the_answers_is_undone(slope: float, offset: list[float], seed: int) -> None:
    log_p, label = answers(60, seed=seed)
    straight = learn(log_p, label, offsets=True).apply(log_p)
    bent = log_softmax(slope * log_p + offset)
    assert learn(bent, label, offsets=True).apply(bent) == pytest.approx(straight, abs=2e-3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(5, 50), min_size=3, max_size=3), st.integers(0, 100))
def test_no_answer_is_preferred_afterwards(counts: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    label = np.repeat([0, 1, 2], counts)
    log_p = log_softmax(random.normal(size=(len(label), 3)) + np.eye(3)[label] + [3, 0, -1])
    held_out = HeldOut(learn(log_p, label, offsets=True).apply(log_p), label)
    assert held_out.weight @ held_out.probability == pytest.approx(1 / 3, abs=1e-4)


def test_a_slope_alone_keeps_the_order() -> None:
    log_p, label = answers(50, seed=2)
    scaling = learn(3 * log_p, label, offsets=False)
    assert (scaling.offset == 0).all()
    assert scaling.slope == pytest.approx(learn(log_p, label, offsets=False).slope / 3, rel=1e-3)
    assert (scaling.apply(3 * log_p).argmax(axis=1) == log_p.argmax(axis=1)).all()


def test_a_judge_without_a_mistake_does_not_become_certain() -> None:
    label = np.repeat([0, 1], 10)
    scaling = learn(log_softmax(4.0 * np.eye(2)[label]), label, offsets=True)
    assert scaling.apply(log_softmax(4.0 * np.eye(2)[label]))[0] == pytest.approx([10.5 / 11, 0.5 / 11], abs=1e-3)


def test_counting_a_text_twice_is_having_it_twice() -> None:
    log_p, label = answers(30, seed=3)
    times = np.random.default_rng(0).integers(1, 3, size=len(label))
    # the wanted probabilities go by the number of texts, which is the same to within a little
    one = learn(log_p, label, offsets=True, times=times).apply(log_p)
    two = learn(np.repeat(log_p, times, axis=0), np.repeat(label, times), offsets=True).apply(log_p)
    assert one == pytest.approx(two, abs=0.02)
    assert one != pytest.approx(learn(log_p, label, offsets=True).apply(log_p), abs=1e-3)


def test_a_text_does_not_calibrate_its_own_answer() -> None:
    random = np.random.default_rng(1)
    label = np.repeat([0, 1, 2], 7)
    noise = log_softmax(random.normal(size=(21, 3)))
    assert (
        cross_fit(noise, label, offsets=True, seed=0).log_loss
        > HeldOut(learn(noise, label, offsets=True).apply(noise), label).log_loss
    )


def test_the_largest_and_the_smallest_numbers_are_safe() -> None:
    assert Scaling(50.0, np.zeros(2)).apply(np.array([[-100.0, 0.0]])).tolist() == [[0.0, 1.0]]
    assert np.isfinite(log_softmax(np.array([[-1e4, 1e4]]))).all()
