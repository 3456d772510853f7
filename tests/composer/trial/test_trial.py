"""Laws of the comparison first: coverage, corrections, equal arms, orders and units; then power, and numbers of others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct, t, ttest_rel

from composer.errors import InputError
from composer.trial import compare, detectable, holm, paired, pairs_needed
from composer.trial.compare import Comparison

VALUES = st.lists(st.floats(-3, 3), min_size=4, max_size=4)
P = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=8)


def runs(*, effect: float = 0.0, n: int = 5, seed: int = 0) -> dict[str, list[float]]:
    """Two controls and two arms whose runs share what a seed does, one arm better by ``effect``."""
    dice = np.random.default_rng(seed)
    shared = dice.normal(0, 3, n)
    means = {"uniform": 0.0, "proportional": 0.0, "equal": 0.0, "other": effect}
    return {arm: (shared + mean + dice.normal(0, 0.1, n)).tolist() for arm, mean in means.items()}


def compared(values: dict[str, list[float]], **changes: object) -> tuple[Comparison, ...]:
    given = {"controls": ("uniform", "proportional"), "better": "higher", "worth": 0.1, **changes}
    return compare(values, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_interval_covers_the_truth_as_often_as_it_says(n: int) -> None:
    dice, truth, n_times = np.random.default_rng(n), 0.7, 2_000
    found = [paired(dice.normal(truth, 2, n) + (s := dice.normal(0, 9, n)), s) for _ in range(n_times)]
    covered = np.mean([each.low <= truth <= each.high for each in found])
    assert covered == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / n_times))


def test_corrected_intervals_cover_all_truths_at_once_and_equal_arms_are_seldom_told_apart() -> None:
    n_times, covered, apart = 500, 0, 0
    for seed in range(n_times):
        found = compared(runs(seed=seed))
        covered += all(each.found.low_corrected <= 0 <= each.found.high_corrected for each in found)
        apart += any(each.outcome != "not distinguishable" for each in found)
    assert covered / n_times > 0.95 - 4 * np.sqrt(0.95 * 0.05 / n_times)
    assert apart / n_times < 0.05 + 4 * np.sqrt(0.95 * 0.05 / n_times)


def test_a_difference_far_above_the_noise_is_told() -> None:
    found = {(each.arm, each.control): each for each in compared(runs(effect=1.0))}
    assert {pair: each.outcome for pair, each in found.items()} == {
        ("equal", "uniform"): "not distinguishable", ("equal", "proportional"): "not distinguishable",
        ("other", "uniform"): "better", ("other", "proportional"): "better",
    }  # fmt: skip
    lower = compared(runs(effect=1.0), better="lower")
    assert [each.outcome for each in lower if each.arm == "other"] == ["worse", "worse"]
    assert found["other", "uniform"].said("loss").startswith("other is better than uniform in loss: +")


def test_the_same_arm_twice_is_not_distinguishable_and_says_why() -> None:
    values = [0.25, 0.5, 0.125]
    [same] = compare({"new": values, "old": values}, controls=["old"], better="higher", worth=0.1)
    assert (same.outcome, same.found.p, same.p_holm, same.more_seeds) == ("not distinguishable", None, None, None)
    assert "what chance does cannot be told" in same.said("loss")
    shifted = [value + 0.5 for value in values]
    [alike] = compare({"new": shifted, "old": values}, controls=["old"], better="higher", worth=0.1)
    assert (alike.outcome, alike.found.difference) == ("not distinguishable", 0.5), "no spread is no proof"


@given(st.permutations(["uniform", "proportional", "equal", "other"]), st.permutations(range(5)))
def test_neither_the_order_of_arms_nor_that_of_seeds_matters(order: list[str], seeds: list[int]) -> None:
    values = runs(effect=0.15)
    before = {(each.arm, each.control): each.model_dump() for each in compared(values)}
    after = compared({arm: [values[arm][i] for i in seeds] for arm in order})
    assert len(after) == len(before)
    for each in after:
        assert numbers(each.model_dump()) == pytest.approx(numbers(before[each.arm, each.control]))
        assert each.outcome == before[each.arm, each.control]["outcome"]


def numbers(told: dict[str, object]) -> list[float]:
    found = told["found"]
    assert isinstance(found, dict)
    return [value for side in (told, found) for value in side.values() if isinstance(value, (int, float))]


@pytest.mark.parametrize("scale", [1e-3, 8.0])
def test_units_matter_to_no_verdict(scale: float) -> None:
    values = runs(effect=0.15)
    scaled = {arm: [scale * value for value in own] for arm, own in values.items()}
    for one, other in zip(compared(values), compared(scaled, worth=0.1 * scale), strict=True):
        assert (other.outcome, other.more_seeds) == (one.outcome, one.more_seeds)
        assert other.p_holm == pytest.approx(one.p_holm)
        assert (other.found.difference, other.found.low, other.detectable) == pytest.approx(
            (scale * one.found.difference, scale * one.found.low, scale * one.detectable)
        )


@given(VALUES, VALUES)
def test_a_difference_turned_round_is_its_negative(x: list[float], y: list[float]) -> None:
    one, other = paired(x, y, n_comparisons=3), paired(y, x, n_comparisons=3)
    assert (one.difference, one.low, one.high_corrected) == pytest.approx(
        (-other.difference, -other.high, -other.low_corrected), abs=1e-12
    )
    assert one.low_corrected <= one.low <= one.difference <= one.high <= one.high_corrected


@given(P)
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p: list[float | None]) -> None:
    found = holm(p)
    for raw, corrected in zip(p, found, strict=True):
        assert (raw is None) == (corrected is None)
        if raw is not None and corrected is not None:
            assert min(1.0, raw) <= corrected <= min(1.0, len(p) * raw) or corrected == pytest.approx(min(1.0, len(p) * raw))
    known = [(raw, corrected) for raw, corrected in zip(p, found, strict=True) if raw is not None]
    for raw, corrected in known:
        for other, beside in known:
            assert raw > other or corrected <= beside  # type: ignore[operator]
    assert holm(p[::-1]) == found[::-1]


def test_the_t_test_is_that_of_scipy() -> None:
    values = runs(effect=0.1)
    found = paired(values["other"], values["uniform"])
    theirs = ttest_rel(values["other"], values["uniform"])
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))


@pytest.mark.parametrize(("n", "alpha"), [(2, 0.05), (3, 0.0125), (8, 0.05), (40, 0.001)])
def test_what_is_detectable_is_what_the_noncentral_t_says(n: int, alpha: float) -> None:
    shift, bound = detectable(1.0, n, alpha=alpha) * np.sqrt(n), t.ppf(1 - alpha / 2, n - 1)
    assert nct.sf(bound, n - 1, shift) == pytest.approx(0.8, abs=2e-3)


@pytest.mark.parametrize(("sd", "difference", "pairs"), [(0.072, 0.05, 19), (0.072, 0.03, 48), (0.034, 0.05, 6), (1, 0.5, 34)])
def test_as_many_pairs_as_are_needed_and_no_more(sd: float, difference: float, pairs: int) -> None:
    assert pairs_needed(sd, difference) == pairs
    assert detectable(sd, pairs) <= difference < detectable(sd, pairs - 1)


def test_more_seeds_are_told_until_there_are_enough() -> None:
    values = runs(n=4)
    first = compared(values, worth=0.05)[0]
    assert first.more_seeds is not None
    assert first.more_seeds + 4 == pairs_needed(first.found.sd, 0.05, alpha=0.05 / 4)
    assert f"{first.more_seeds} more seeds would resolve one of 0.05" in first.said("loss")
    enough = compared(values, worth=10)[0]
    assert enough.more_seeds == 0
    assert "within the 10 that is worth knowing" in enough.said("loss")
    never = compared(values, worth=1e-6)[0]
    assert never.more_seeds is None
    assert "out of reach" in never.said("loss")


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="not pairs of runs"):
        paired([1.0], [2.0])
    with pytest.raises(InputError, match="not pairs of runs"):
        paired([1.0, 2.0], [2.0, 3.0, 4.0])
    with pytest.raises(InputError, match="no finite measure"):
        paired([1.0, float("nan")], [2.0, 3.0])
    with pytest.raises(InputError, match="nothing to compare"):
        compare({"uniform": [1.0, 2.0]}, controls=["uniform"], better="higher", worth=0.1)
    with pytest.raises(InputError, match="no difference to find"):
        pairs_needed(1.0, 0)
    with pytest.raises(InputError, match="no power to tell"):
        detectable(1.0, 1)
