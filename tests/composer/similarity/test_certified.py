"""What is solved on a few pairs is the optimum of all: an independent solver agrees, and the dual proves it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import FaultError
from composer.similarity import DISTANCES, certified
from composer.similarity import transport as direct
from composer.similarity.certified import Solved, solve
from composer.similarity.potentials import potentials
from composer.similarity.transport import costs
from composer.spec import rng


def problem(seed: int, m: int, n: int, *, even: bool = False, d: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dice = rng(seed, "problem")
    price = costs(
        dice.normal(size=(m, d)).astype(np.float32), (dice.normal(size=(n, d)) + 0.3).astype(np.float32), cost="cosine"
    )
    return price, *(np.full(k, 1 / k) if even else dice.dirichlet(np.ones(k)) for k in (m, n))


def least(price: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ot

        return float(ot.emd2(a, b, price, numItermax=10**7))


def holds(found: Solved, price: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    i, j, mass = found.plan
    assert (mass >= 0).all()
    assert np.bincount(i, mass, minlength=len(a)) == pytest.approx(a, abs=1e-12)
    assert np.bincount(j, mass, minlength=len(b)) == pytest.approx(b, abs=1e-12)
    assert (found.f[:, None] + found.g - price).max() <= 1e-8
    assert found.violation <= 1e-8
    assert found.f @ a + found.g @ b == pytest.approx(found.cost, abs=1e-9)  # a plan and a dual that meet
    assert found.cost == pytest.approx(price[i, j] @ mass, abs=1e-15)


@given(seed=st.integers(0, 999), m=st.integers(1, 60), n=st.integers(1, 60), even=st.booleans())
@settings(max_examples=40, deadline=None)
def test_it_is_the_optimum_with_its_proof(seed: int, m: int, n: int, even: bool) -> None:
    price, a, b = problem(seed, m, n, even=even)
    found = solve(price, a, b)
    assert found.cost == pytest.approx(least(price, a, b), abs=1e-12)
    holds(found, price, a, b)


@pytest.mark.parametrize("even", [True, False])
def test_with_hardly_any_pairs_at_first_the_others_come_in(even: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certified, "PAIRS", 1)
    monkeypatch.setattr(certified, "STAGES", ((1.0, 1),))
    price, a, b = problem(5, 80, 80, even=even)
    a = a if even else rng(0, "skewed").dirichlet(np.full(80, 0.05)) * (1 - 80e-9) + 1e-9
    found = solve(price, a, b)
    assert found.cost == pytest.approx(least(price, a, b), abs=1e-12)
    holds(found, price, a, b)


@pytest.mark.parametrize("price", [np.zeros((7, 7)), np.full((7, 7), 3.0), 1 - np.eye(7), 1e-9 * (1 - np.eye(7))])
def test_prices_without_a_difference_and_ties(price: np.ndarray) -> None:
    for a in (np.full(7, 1 / 7), rng(0, "a").dirichlet(np.ones(7))):
        found = solve(price, a, a)
        assert found.cost == pytest.approx(3.0 if price[0, 0] else 0.0, abs=1e-15)
        assert np.bincount(found.plan[0], found.plan[2], minlength=7) == pytest.approx(a)


def test_potentials_nearly_pay_for_the_entropic_plan() -> None:
    price, a, b = problem(3, 40, 50)
    price /= price.mean()
    f, g = potentials(price, a, b, stages=certified.STAGES)
    e = certified.STAGES[-1][0]
    plan = a[:, None] * b * np.exp((f[:, None] + g - price) / e)
    assert plan.sum(axis=0) == pytest.approx(b, abs=1e-4)
    assert np.abs(plan.sum(axis=1) - a).sum() < 0.05


def test_potentials_of_one_s_own_give_the_same_optimum() -> None:
    price, a, b = problem(7, 50, 60)
    dice = rng(7, "start")
    for start in ((np.zeros(50), np.zeros(60)), (dice.normal(size=50), dice.normal(size=60))):
        found = solve(price, a, b, start=start)
        assert found.cost == pytest.approx(least(price, a, b), abs=1e-12)
        holds(found, price, a, b)


def test_clouds_above_the_small_size_go_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = rng(1, "clouds")
    x, y, w = dice.normal(size=(60, 4)), dice.normal(size=(45, 4)), dice.random(60) + 0.1
    before = DISTANCES["wasserstein"]().between(x, y, wx=w)
    monkeypatch.setattr(direct, "SMALL", 20)
    assert DISTANCES["wasserstein"]().between(x, y, wx=w) == pytest.approx(before, abs=1e-12)
    monkeypatch.setattr(certified, "ITERATIONS", 1)
    with pytest.raises(FaultError, match=r"the exact transport did not finish.*subsampled"):
        DISTANCES["wasserstein"]().between(x, y, wx=w)


def test_an_assignment_that_is_no_longer_the_best_one_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    plain = certified._settled
    monkeypatch.setattr(certified, "_settled", lambda *args, rounds: made.append(rounds) or plain(*args, rounds=rounds))
    monkeypatch.setattr(certified, "PAIRS", 1)
    monkeypatch.setattr(certified, "STAGES", ((1.0, 1),))
    for seed in range(20):
        price, a, b = problem(seed, 150, 150, even=True)
        found = solve(price, a, b)
        assert found.cost == pytest.approx(least(price, a, b), abs=1e-12)
        holds(found, price, a, b)
    assert made.count(300) > 20  # some were made twice
    assert made.count(certified._ROUNDS) > 0
