"""The correction undoes confusion, and what it takes for granted is looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.knowledge.judges.correction import invert, transfer
from probes.knowledge.judges.held_out import HeldOut
from probes.knowledge.judges.scaling import log_softmax


def simplex(size: int) -> st.SearchStrategy[np.ndarray]:
    return st.lists(st.floats(0.01, 1), min_size=size, max_size=size).map(lambda v: np.array(v) / sum(v))


@settings(max_examples=60, deadline=None)
@given(simplex(4), st.lists(simplex(4), min_size=4, max_size=4))
def test_inverting_undoes_confusion(p: np.ndarray, columns: list[np.ndarray]) -> None:
    confusion = 0.5 * np.eye(4) + 0.5 * np.array(columns).T
    assert invert(confusion, confusion @ p) == pytest.approx(p, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(simplex(3), st.lists(simplex(3), min_size=3, max_size=3), st.integers(0, 1000))
def test_inverting_finds_the_nearest_point_of_the_simplex(m: np.ndarray, columns: list[np.ndarray], seed: int) -> None:
    confusion = 0.3 * np.eye(3) + 0.7 * np.array(columns).T
    found = invert(confusion, m)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    others = np.random.default_rng(seed).dirichlet(np.ones(3), size=500)
    assert np.linalg.norm(confusion @ found - m) <= np.linalg.norm(others @ confusion.T - m, axis=1).min() + 1e-9


def judged(label: np.ndarray, *, seed: int, sure: tuple[float, ...] = (1.0, 2.0, 4.0)) -> np.ndarray:
    """Return what a judge says that is surer of some domains than of others."""
    random = np.random.default_rng(seed)
    return np.exp(log_softmax(np.array(sure)[label, None] * (np.eye(3)[label] + random.normal(size=(len(label), 3)) / 2)))


def pair(n: int, m: int, shares: tuple[float, ...], *, seed: int, sure: tuple[float, ...]) -> tuple[HeldOut, np.ndarray]:
    random = np.random.default_rng(seed)
    known = np.repeat([0, 1, 2], n)
    return HeldOut(judged(known, seed=seed), known), judged(random.choice(3, p=shares, size=m), seed=seed + 1, sure=sure)


@pytest.mark.parametrize("shares", [(1 / 3, 1 / 3, 1 / 3), (0.8, 0.1, 0.1), (0.05, 0.05, 0.9)])
@pytest.mark.parametrize(("n", "m"), [(300, 1000), (20, 100)])
def test_another_mixture_alone_is_no_difference(n: int, m: int, shares: tuple[float, ...]) -> None:
    found = [transfer(*pair(n, m, shares, seed=seed, sure=(1.0, 2.0, 4.0))) for seed in range(0, 40, 2)]
    assert all(each.holds for each in found)


def test_texts_of_which_the_judge_is_less_sure_are_a_difference() -> None:
    found = transfer(*pair(300, 1000, (0.4, 0.3, 0.3), seed=0, sure=(0.3, 0.5, 0.8)))
    assert not found.holds
    assert found.figures() == {"distance": found.distance, "limit": found.limit, "shift": found.shift, "holds": False}


def test_the_distance_is_that_of_the_weighed_distributions() -> None:
    held_out = HeldOut(np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6]]), np.array([0, 0, 1, 1]))
    found = transfer(held_out, np.array([[0.85, 0.15], [0.35, 0.65]]))  # the corrected shares are 0.6 and 0.4
    # of the reference texts 0.2 are at 0.6, 0.5 at 0.7 and below, 0.7 at 0.8 and below; of the judged ones half are at 0.65
    assert found.distance == pytest.approx(0.3)
    assert found.shift == pytest.approx(0.05 * 0.2 + 0.05 * 0.3 + 0.05 * 0.2 + 0.05 * 0.3)


def test_the_limit_falls_with_the_number_of_texts() -> None:
    limits = [transfer(*pair(n, 4 * n, (0.4, 0.3, 0.3), seed=0, sure=(1.0, 2.0, 4.0))).limit for n in (5, 20, 2000)]
    assert limits[0] > limits[1] > limits[2]


def test_a_judge_that_is_certain_either_way_is_no_difference() -> None:
    label = np.repeat([0, 1], 500)
    held_out = HeldOut(np.where(np.eye(2)[label], 0.999, 0.001), label)
    found = transfer(held_out, np.where(np.eye(2)[label], 0.99999, 0.00001))
    assert found.distance == pytest.approx(1)
    assert found.shift == pytest.approx(0.00099)
    assert found.holds
