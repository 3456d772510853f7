"""Laws first: weights of a region, designs, planted laws found again, noise that is told from a law, and hulls."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import InputError
from composer.small_runs import (
    DESIGNS,
    FORMS,
    Region,
    interval,
    lay_out,
    leverage,
    log_determinant,
    lowest,
    outside,
    validate,
)
from composer.small_runs.forms import fit
from composer.small_runs.region import Shares

NAMES = ("law", "medicine", "code", "general")
OPEN = Region(NAMES, 0.0, (1.0,) * 4)
CUT = Region(NAMES, 0.05, (1.0, 0.4, 0.6, 0.2))
ORDER = [2, 0, 3, 1]


def reordered(region: Region) -> Region:
    return Region(tuple(region.domains[i] for i in ORDER), region.floor, tuple(region.caps[i] for i in ORDER))


@cache
def runs(region: Region = OPEN, n: int = 12) -> Shares:
    return lay_out(region, n)


PLANTED: dict[str, Callable[[Shares], Shares]] = {
    "linear": lambda r: np.column_stack([3 + r @ [1.0, -1.0, 0.5, 0.0], 2 + r @ [0.2, 0.4, -0.9, 0.3]]),
    "quadratic": lambda r: np.column_stack([2 + r[:, 0] - 3 * r[:, 0] * r[:, 1], 3 - 2 * r[:, 1] * r[:, 2] + r[:, 3]]),
    "exponential": lambda r: np.column_stack([1 + np.exp(r @ [-4.0, 1.0, 0.5, 0.0]), 0.5 + np.exp(r @ [1.0, -3.0, 0.2, 0.1])]),
}


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda w: sum(w) > 1e-3))
def test_weights_are_moved_into_the_region_and_those_in_it_stay(drawn: list[float]) -> None:
    moved = CUT.within(drawn)
    assert moved.sum() == pytest.approx(1.0, abs=1e-12)
    assert all(low <= w <= high for w, (low, high) in zip(moved, CUT.bounds, strict=True))
    np.testing.assert_array_equal(CUT.within(moved), moved)
    other = reordered(CUT).within(np.array(drawn)[ORDER])
    np.testing.assert_allclose(other, moved[ORDER], atol=2e-4)  # of equal remainders the first gets the last digit


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("region", [OPEN, CUT])
def test_a_design_lies_in_its_region_whatever_the_order_of_the_domains(design: str, region: Region) -> None:
    given = [region.within(np.ones(4))]
    points = lay_out(region, 11, design=design, given=given, seed=3)  # type: ignore[arg-type]
    np.testing.assert_allclose(points.sum(axis=1), 1, atol=1e-12)
    for column, (low, high) in zip(points.T, region.bounds, strict=True):
        assert (column >= low).all()
        assert (column <= high).all()
    assert len(np.unique(np.vstack([*given, points]), axis=0)) == 12, "no point comes twice"
    other = lay_out(reordered(region), 11, design=design, given=[given[0][ORDER]], seed=3)  # type: ignore[arg-type]
    np.testing.assert_array_equal(other, points[:, ORDER])


@pytest.mark.parametrize("region", [OPEN, CUT])
def test_a_d_optimal_design_has_the_larger_determinant(region: Region) -> None:
    given = [region.within(np.ones(4))]
    best = log_determinant(np.vstack([*given, lay_out(region, 11, given=given)]))
    for seed in range(10):
        drawn = lay_out(region, 11, design="random", given=given, seed=seed)
        assert best > log_determinant(np.vstack([*given, drawn])) + 1, seed


def test_enough_runs_for_a_quadratic_law_are_the_corners_and_the_middles_of_edges() -> None:
    points = {tuple(sorted(point)) for point in runs(n=10).tolist()}
    assert points == {(0, 0, 0, 1), (0, 0, 0.5, 0.5)}, "Scheffe's simplex lattice, which is D-optimal for it"


@pytest.mark.parametrize("form", FORMS)
def test_a_planted_law_is_found_again(form: str) -> None:
    shares, values = runs(n=14), PLANTED[form](runs(n=14))
    found = validate(shares, values, np.array([0.5, 0.5]))
    assert found.errors[form].r2 > 0.999
    assert found.predicts
    assert found.chosen.r2 > 0.99
    assert found.p < 0.1
    new = lay_out(OPEN, 30, design="random", seed=9)
    np.testing.assert_allclose(fit(form, shares, values)(new), PLANTED[form](new), atol=2e-3)


@pytest.mark.parametrize("form", FORMS)
def test_a_law_knows_no_order_of_domains_and_none_of_runs(form: str) -> None:
    shares = runs(CUT)
    values = PLANTED["exponential"](shares) + np.random.default_rng(1).normal(0, 0.05, (12, 2))
    new, law = lay_out(CUT, 5, design="random", seed=2), fit(form, shares, values)
    np.testing.assert_allclose(fit(form, shares[:, ORDER], values)(new[:, ORDER]), law(new), rtol=1e-3)
    back = np.arange(12)[::-1]
    np.testing.assert_allclose(fit(form, shares[back], values[back])(new), law(new), rtol=1e-3)


def test_the_least_of_a_planted_law_is_found_in_the_region() -> None:
    law, objective = fit("exponential", runs(), PLANTED["exponential"](runs())), np.array([0.5, 0.5])

    def of(shares: Shares) -> Shares:
        return np.asarray(law(shares) @ objective)

    for region in (OPEN, CUT):
        weights = lowest(of, region, starts=runs(region))
        others = lay_out(region, 400, design="random", seed=1)
        assert of(weights[None])[0] <= of(others).min() + 1e-6
        assert all(low <= w <= high for w, (low, high) in zip(weights, region.bounds, strict=True))
        turned = lowest(lambda s: of(s[:, np.argsort(ORDER)]), reordered(region), starts=runs(region)[:, ORDER])
        np.testing.assert_allclose(turned, weights[ORDER], atol=2e-3)


def test_in_noise_no_law_is_better_than_the_mean_on_average() -> None:
    shares, dice = runs(Region(("a", "b", "c"), 0.0, (1.0,) * 3), 9), np.random.default_rng(0)
    found = [validate(shares, 1 + dice.normal(0, 0.1, (9, 1)), np.ones(1)) for _ in range(15)]
    assert np.mean([each.chosen.law**2 - each.chosen.mean**2 for each in found]) > 0
    assert np.mean([each.predicts for each in found]) <= 0.2
    [first, *_] = found
    assert first.chosen.law >= min(each.law for each in first.errors.values()), "the least of several is too low by the choice"


def test_runs_that_are_all_alike_tell_no_law() -> None:
    found = validate(runs(), np.full((12, 2), 1.5), np.array([0.5, 0.5]))
    assert not found.predicts
    assert found.chosen.r2 == pytest.approx(0.0)


def test_the_error_of_the_mean_is_that_of_the_mean_of_the_other_runs() -> None:
    shares, values = runs(), PLANTED["linear"](runs())
    found = validate(shares, values, np.array([1.0, 0.0]))
    spread = np.std(values[:, 0], ddof=0) * 12 / 11
    assert found.chosen.mean == found.by_domain[0].mean == pytest.approx(spread)
    assert found.by_domain[0].law == pytest.approx(found.errors[found.law.form].law)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=12, max_size=12), st.floats(0.01, 0.5))
def test_a_mean_of_runs_is_inside_them_and_what_goes_beyond_a_corner_is_outside(mean: list[float], step: float) -> None:
    points = runs(CUT)
    share = np.array(mean) / np.sum(mean)
    assert outside(points, share @ points) == pytest.approx(0, abs=1e-9)
    corner = points[points[:, 0].argmax()]
    beyond = corner + step * (np.eye(4)[0] - corner)
    moved = np.abs(beyond - corner).sum() / 2
    assert 0 < outside(points, beyond) <= moved + 1e-9


def test_leverage_sums_to_the_rank_and_is_least_in_the_middle() -> None:
    points = runs()
    own = [leverage(points, each) for each in points]
    assert sum(own) == pytest.approx(4)
    assert leverage(points, np.full(4, 0.25)) < min(own) + 1e-9
    assert leverage(points[:, ORDER], points[0][ORDER]) == pytest.approx(own[0])


def test_an_interval_holds_another_run_as_often_as_it_says() -> None:
    dice, held = np.random.default_rng(5), []
    for _ in range(2_000):
        *seen, new = dice.normal(0, 1, 11)
        without = (np.sum(seen) - seen) / 9
        ends = interval(without, np.array(seen) - without)
        assert ends is not None
        held.append(ends[0] <= new <= ends[1])
    assert np.mean(held) == pytest.approx(0.82, abs=0.04)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Region(("a", "b"), 0.0, (0.3, 0.5)), "the data is too little for the budget; got at most a 0.3000, b 0.5000"),
        (lambda: Region(("a", "b"), 0.6, (1.0, 1.0)), "floors that the domains cannot all have"),
        (lambda: lay_out(Region(("a", "b"), 0.4999, (1.0, 1.0)), 9), "the region has too few mixtures to run"),
        (lambda: validate(runs()[:6], np.ones((6, 1)), np.ones(1)), "expected 7 finite runs or more; got 6"),
        (lambda: validate(runs(), np.full((12, 1), np.nan), np.ones(1)), "runs from which no law can be told"),
        (lambda: interval(np.ones(3), np.ones(4)), "not a prediction for every run"),
    ],
)
def test_what_tells_nothing_is_refused(call: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()
