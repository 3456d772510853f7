"""The interval holds the least cost, is as narrow as was asked for, and does so from any potentials; numpy and torch agree."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import SpecError
from composer.similarity import DISTANCES, Cloud, interval, potentials, wasserstein
from composer.similarity.interval import interval as enclose
from composer.similarity.transport import costs
from composer.spec import rng

SLACK = 1e-12
Problem = tuple[np.ndarray, np.ndarray, np.ndarray]


def problem(seed: int, m: int, n: int, *, thin: float = 1.0, d: int = 6) -> Problem:
    dice = rng(seed, "interval")
    x, y = dice.normal(size=(m, d)).astype(np.float32), (dice.normal(size=(n, d)) + 0.3).astype(np.float32)
    price = costs(x, y, cost="cosine")
    a, b = (dice.dirichlet(np.full(k, thin)) * (1 - k * 1e-9) + 1e-9 for k in (m, n))
    return price, a / a.sum(), b / b.sum()


def least(price: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ot

        return float(ot.emd2(a, b, price, numItermax=10**7))


@given(seed=st.integers(0, 999), m=st.integers(1, 50), n=st.integers(1, 50), thin=st.sampled_from([0.05, 1.0]))
@settings(max_examples=40, deadline=None)
def test_it_holds_the_least_cost_and_is_narrow_enough(seed: int, m: int, n: int, thin: float) -> None:
    price, a, b = problem(seed, m, n, thin=thin)
    value = least(price, a, b)
    for gap in (0.1, 0.005):
        low, high = enclose(price, a, b, gap=gap)
        assert 0 <= low <= high
        assert low - SLACK <= value <= high + SLACK
        assert high - low <= gap * high


@given(seed=st.integers(0, 999), spread=st.sampled_from([0.0, 0.1, 10.0]), e=st.sampled_from([0.002, 0.05, 1.0]))
@settings(max_examples=40, deadline=None)
def test_both_ends_hold_for_any_potentials_and_any_cost(seed: int, spread: float, e: float) -> None:
    dice = rng(seed, "any")
    price = dice.random((20, 30)) * (dice.random((20, 30)) < 0.7)  # no metric would be like this
    a, b = dice.dirichlet(np.ones(20)), dice.dirichlet(np.ones(30))
    f, g = spread * dice.normal(size=20), spread * dice.normal(size=30)
    value = least(price, a, b)
    assert interval._dual(price, a, b, g) <= value + SLACK
    assert interval._plan(price, a, b, f, g, e=e) >= value - SLACK


def test_the_ends_meet_at_the_optimum_of_two_points() -> None:
    price, a, b = 1 - np.eye(2), np.array([0.75, 0.25]), np.array([0.25, 0.75])
    low, high = enclose(price, a, b, gap=1e-4)  # half of the mass must be moved, at cost one
    assert low == pytest.approx(0.5, abs=1e-4)
    assert high == pytest.approx(0.5, abs=1e-4)


def test_where_the_stages_end_too_wide_it_is_solved_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    price, a, b = problem(3, 70, 60)
    low, high = enclose(price, a, b, gap=1e-9)
    assert low == high == pytest.approx(least(price, a, b), abs=1e-12)
    monkeypatch.setattr(interval, "solve", None)  # not asked where the stages do
    low, high = enclose(price, a, b, gap=0.05)
    assert low < high


@pytest.mark.parametrize("price", [np.zeros((4, 3)), np.full((4, 3), 2.0)])
def test_prices_without_a_difference(price: np.ndarray) -> None:
    low, high = enclose(price, np.full(4, 1 / 4), np.full(3, 1 / 3), gap=0.005)
    assert (low, high) == pytest.approx((price[0, 0], price[0, 0]), abs=1e-12)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> tuple[Cloud, Cloud]:
    dice = rng(5, "pair")
    monkeypatch.setattr(wasserstein, "SMALL", 20)
    return Cloud(dice.normal(size=(80, 5)), dice.random(80) + 0.1), Cloud(dice.normal(size=(60, 5)) + 0.5)


def test_the_distance_gives_the_middle_and_both_ends(pair: tuple[Cloud, Cloud]) -> None:
    form = DISTANCES["wasserstein"](mode="interval", gap=0.02)
    found, turned = form.estimate(*pair), form.estimate(*reversed(pair))
    exact = DISTANCES["wasserstein"]().estimate(*pair)
    assert found == turned  # to the bit
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.high - found.low <= 0.02 * found.high
    assert found.low <= exact.value <= found.high
    assert found.value == pytest.approx((found.low + found.high) / 2, abs=1e-15)
    assert (exact.low, exact.high, found.stderr) == (None, None, 0)


def test_the_distance_to_itself_is_zero_and_small_clouds_are_exact(pair: tuple[Cloud, Cloud]) -> None:
    form = DISTANCES["wasserstein"](mode="interval")
    x = rng(6, "itself").normal(size=(50, 5))
    assert form.estimate(Cloud(x), Cloud(x[::-1]))[:4] == (0, 0, 0, 0)
    small = Cloud(pair[1].vectors[:20])
    found = form.estimate(pair[0], small)
    assert found.low == found.value == found.high == DISTANCES["wasserstein"]().estimate(pair[0], small).value


def test_a_gap_is_a_share() -> None:
    with pytest.raises(SpecError, match="gap: input should be greater than 0"):
        DISTANCES["wasserstein"](mode="interval", gap=0)
    assert "device" not in DISTANCES["wasserstein"](device="cpu").identity()


STAGES = ((0.05, 12), (0.01, 30))


def marginals(price: np.ndarray, a: np.ndarray, b: np.ndarray, f: np.ndarray, g: np.ndarray, e: float) -> np.ndarray:
    plan = a[:, None] * b * np.exp((f[:, None] + g - price) / e)
    return np.concatenate([plan.sum(axis=1) - a, plan.sum(axis=0) - b])


@given(seed=st.integers(0, 999), m=st.integers(2, 60), n=st.integers(2, 60))
@settings(max_examples=15, deadline=None)
def test_numpy_and_torch_agree(seed: int, m: int, n: int) -> None:
    price, a, b = problem(seed, m, n)
    start = price.min(axis=1), np.zeros(n)
    ours = potentials._by_numpy(price, a, b, *start, STAGES)
    theirs = potentials._by_torch(price, a, b, *start, STAGES, place="cpu")
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)  # of costs of about one; kernels have 32 bits
    assert np.abs(marginals(price, a, b, *ours, 0.01)).sum() < 0.05


def test_over_relaxed_iterations_end_where_plain_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    price, a, b = problem(11, 40, 45)
    many = potentials.potentials(price, a, b, stages=((0.05, 2000),))
    monkeypatch.setattr(potentials, "_PLAIN", 10**6)
    plain = potentials.potentials(price, a, b, stages=((0.05, 2000),))
    shift = (many[0] - plain[0]).mean()  # potentials are known up to a constant
    np.testing.assert_allclose(many[0] - shift, plain[0], atol=1e-5)
    np.testing.assert_allclose(many[1] + shift, plain[1], atol=1e-5)


def test_a_gpu_that_is_not_there_is_refused_and_auto_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SpecError, match=r"distance\.device: no GPU that torch can use here; expected auto or cpu; got cuda"):
        potentials._place("cuda")
    assert potentials._place("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (potentials._place("auto"), potentials._place("cpu")) == ("cuda", "cpu")
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(potentials, "_DRIVERS", ())
    assert potentials._place("auto") == "cpu"
    assert "torch" not in sys.modules  # it is not loaded for nothing


@pytest.mark.gpu
def test_a_gpu_gives_the_same_potentials_and_distances() -> None:
    price, a, b = problem(2, 900, 800)
    ours = potentials.potentials(price, a, b, stages=STAGES, device="cpu")
    theirs = potentials.potentials(price, a, b, stages=STAGES, device="cuda")
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)
    low, high = enclose(price, a, b, gap=0.005, device="cuda")
    assert low - SLACK <= least(price, a, b) <= high + SLACK
    dice = rng(9, "gpu")
    x, y = Cloud(dice.normal(size=(900, 8))), Cloud(dice.normal(size=(700, 8)) + 0.3)
    on = {place: DISTANCES["wasserstein"](device=place).estimate(x, y).value for place in ("cpu", "cuda")}
    assert on["cuda"] == pytest.approx(on["cpu"], rel=1e-9)
