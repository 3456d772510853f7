"""Partial transport: laws of what is covered, an independent linear programme, and rows that may stand in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from composer.errors import FaultError, InputError, SpecError
from composer.similarity import coverage
from composer.similarity.coverage import cover
from composer.similarity.transport import costs
from composer.spec import rng

some = settings(max_examples=25, deadline=None)
Weighted = tuple[np.ndarray, np.ndarray]


def cloud(seed: int, m: int, *, shift: float = 0.0) -> Weighted:
    dice = rng(seed, "coverage")
    return (dice.normal(size=(m, 4)) + shift).astype(np.float32), dice.random(m) + 0.1


def total(old: Weighted, found: coverage.Coverage) -> float:
    return float(found.uncovered @ old[1] / old[1].sum())


@given(seed=st.integers(0, 999), m=st.integers(1, 12), n=st.integers(1, 12), near=st.floats(0.05, 1.5))
@some
def test_it_is_the_optimum_of_the_linear_programme(seed: int, m: int, n: int, near: float) -> None:
    old, new = cloud(seed, m), cloud(seed + 1, n, shift=0.3)
    found = cover(*old, *new, near=near)
    price = costs(old[0], new[0], cost="cosine")
    a, b = old[1] / old[1].sum(), new[1] / new[1].sum()
    sums = np.vstack([np.kron(np.eye(m), np.ones(n)), np.kron(np.ones(m), np.eye(n))])
    best = linprog((price - near).ravel(), A_ub=sums, b_ub=np.concatenate([a, b]))
    i, j, mass = found.plan
    assert (mass > 0).all()
    assert (np.bincount(j, mass, minlength=n) <= b + 1e-12).all()
    assert 1 - np.bincount(i, mass, minlength=m) / a == pytest.approx(found.uncovered, abs=1e-9)
    assert mass @ (price[i, j] - near) == pytest.approx(best.fun, abs=1e-7)
    assert ((found.uncovered >= 0) & (found.uncovered <= 1)).all()
    assert found.nearest == pytest.approx(price.min(axis=1))


@given(seed=st.integers(0, 999), m=st.integers(1, 20), n=st.integers(1, 20))
@some
def test_the_ends_of_near_and_what_lies_between(seed: int, m: int, n: int) -> None:
    old, new = cloud(seed, m), cloud(seed + 1, n)
    assert cover(*old, *new, near=0).uncovered == pytest.approx(np.ones(m))
    assert cover(*old, *new, near=float("inf")).uncovered == pytest.approx(np.zeros(m), abs=1e-9)
    assert cover(*old, *new, near=2.0).uncovered == pytest.approx(np.zeros(m), abs=1e-9)  # no cost is above two
    totals = [total(old, cover(*old, *new, near=near)) for near in (0.1, 0.3, 0.6, 1.0, 1.5)]
    assert (np.diff(totals) <= 1e-9).all()


@given(seed=st.integers(0, 999), m=st.integers(1, 20), near=st.sampled_from([0.0, 0.1, 3.0]))
@some
def test_a_cloud_covers_itself_at_any_near(seed: int, m: int, near: float) -> None:
    x, w = cloud(seed, m)
    found = cover(x, w, x[::-1], w[::-1], near=near)
    assert found.uncovered == pytest.approx(np.zeros(m), abs=1e-9)
    assert found.nearest == pytest.approx(np.zeros(m), abs=1e-12)


@given(seed=st.integers(0, 999), m=st.integers(2, 15), data=st.data())
@some
def test_rows_may_stand_in_any_order_and_equal_ones_share(seed: int, m: int, data: st.DataObject) -> None:
    (x, w), new = cloud(seed, m), cloud(seed + 1, 10)
    whole = cover(x, w, *new, near=0.4)
    order = np.array(data.draw(st.permutations(range(m))))
    turn = np.array(data.draw(st.permutations(range(10))))
    turned = cover(x[order], w[order] * 3, new[0][turn], new[1][turn], near=0.4)
    assert turned.uncovered == pytest.approx(whole.uncovered[order], abs=1e-9)
    assert turned.nearest == pytest.approx(whole.nearest[order])
    row = data.draw(st.integers(0, m - 1))
    split = np.append(w, 0.75 * w[row])
    split[row] *= 0.25
    parts = cover(np.vstack([x, x[row]]), split, *new, near=0.4)
    assert parts.uncovered == pytest.approx(np.append(whole.uncovered, whole.uncovered[row]), abs=1e-9)
    i, _, mass = parts.plan
    covered = np.bincount(i, mass, minlength=m + 1)
    assert covered[m] == pytest.approx(3 * covered[row], abs=1e-12)


def test_room_is_taken_by_whom_it_suits_best() -> None:
    x, y = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]
    found = cover(x, [0.5, 0.5], y, [0.25, 0.75], near=0.2)
    assert found.uncovered == pytest.approx([0.5, 1.0])  # a quarter of the mass is at hand; 1 - 1/sqrt(2) is too far
    assert found.nearest == pytest.approx([0, 1 - 0.5**0.5])
    assert cover(x, [0.5, 0.5], y, [0.25, 0.75], near=0.3).uncovered == pytest.approx([0.0, 0.0])


def test_ties_and_rows_without_weight() -> None:
    x = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]
    found = cover(x, [1, 3, 1, 0, 0], [[1.0, 0.0], [0.0, -1.0], [0.0, 1.0]], [1, 3, 0], near=0.5)
    assert found.uncovered == pytest.approx([1 - 0.25 / 0.8, 1 - 0.25 / 0.8, 1, 1, 1])
    assert found.nearest == pytest.approx([0, 0, 1, 1, 1])
    i, j, mass = found.plan
    assert (i.tolist(), j.tolist()) == ([0, 1], [0, 0])
    assert mass == pytest.approx([0.25 / 4, 0.75 / 4])


def test_large_problems_go_through_few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = cloud(1, 90), cloud(2, 70, shift=0.2)
    direct = cover(*old, *new, near=0.3)
    monkeypatch.setattr(coverage, "SMALL", 20)
    found = cover(*old, *new, near=0.3)
    assert found.uncovered == pytest.approx(direct.uncovered, abs=1e-9)
    assert 0 < total(old, found) < 1


def test_euclidean_costs() -> None:
    found = cover([[0.0], [4.0]], None, [[1.0], [9.0]], None, near=1.0, cost="euclidean")
    assert found.uncovered == pytest.approx([0, 1])
    assert found.nearest == pytest.approx([1, 3])


def test_what_cannot_be_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = cloud(0, 5)
    for near in (-0.1, float("nan")):
        with pytest.raises(SpecError, match="near: a cost to stay within that is none; expected a number from zero"):
            cover(x, w, x, w, near=near)
    with pytest.raises(InputError, match="weights that do not fit a cloud"):
        cover(x, w[:3], x, w, near=0.1)
    with pytest.raises(InputError, match="clouds of different dimensions"):
        cover(x, w, x[:, :2], w, near=0.1)
    monkeypatch.setattr(coverage, "_ITERATIONS", 1)
    many, few = cloud(1, 60), cloud(2, 60)
    with pytest.raises(FaultError, match=r"the partial transport did not finish.*take a sample"):
        cover(*many, *few, near=1.0)
    monkeypatch.setattr(coverage, "MAX_POINTS", 4)
    with pytest.raises(SpecError, match=r"coverage: too many points; expected at most 4; got 5 and 5; take a sample"):
        cover(x, w, x, w, near=0.1)
