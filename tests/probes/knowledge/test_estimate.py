"""Shares, their intervals and the difference of two: laws first, then how often an interval holds what it should."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import StoreError
from probes.knowledge.bootstrap import read_resamples, write_resamples
from probes.knowledge.estimate import (
    Estimate,
    Rounds,
    difference,
    estimate,
    interval_with_judge,
)

TRUTH = (0.6, 0.3, 0.1)


def judge(**more: Any) -> Any:
    return SimpleNamespace(accuracy=1.0, shares=lambda mean: mean, **more)


def labels(n: int, *, seed: int, p: Sequence[float] = TRUTH) -> np.ndarray:
    return np.eye(len(p))[np.random.default_rng(seed).choice(len(p), p=p, size=n)]


def one_round(n: int) -> Rounds:
    return Rounds(np.zeros(n, dtype=int), np.ones(1))


def found(n: int, *, seed: int, p: Sequence[float] = TRUTH) -> Estimate:
    return estimate(judge(), labels(n, seed=seed, p=p), one_round(n), seed=0)


def test_counted_labels_and_certain_probabilities_give_the_same_shares() -> None:
    rows = labels(250, seed=3)
    assert estimate(judge(), rows, one_round(250), seed=0).share == pytest.approx(rows.mean(axis=0), abs=1e-15)


def test_the_error_is_that_of_a_multinomial() -> None:
    error = found(1000, seed=1).stderr
    assert error == pytest.approx([np.sqrt(p * (1 - p) / 1000) for p in TRUTH], rel=0.12)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = []
    for seed in range(100):
        low, high = found(200, seed=seed).interval
        held.append((low <= TRUTH) & (high >= TRUTH))
    assert 0.9 <= np.mean(held) <= 0.98


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 99))
def test_a_mean_over_rounds_is_the_mean_of_their_means(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.dirichlet(np.ones(3), size=sum(sizes))
    rounds = Rounds(np.repeat(np.arange(len(sizes)), sizes), np.ones(len(sizes)))
    parts = np.split(values, np.cumsum(sizes)[:-1])
    assert rounds.mean(values) == pytest.approx(np.mean([part.mean(axis=0) for part in parts], axis=0))
    again = rounds.resampled(values, random, n=7)
    assert again.shape == (7, 3)
    assert again.sum(axis=1) == pytest.approx(1)
    order = random.permutation(len(values))
    assert Rounds(rounds.of[order], rounds.weight).mean(values[order]) == pytest.approx(rounds.mean(values))


def test_a_round_that_was_cut_short_counts_by_what_there_is_of_it() -> None:
    values = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]])
    rounds = Rounds(np.array([0, 0, 0, 0, 1]), np.array([1.0, 0.25]))
    assert rounds.mean(values) == pytest.approx([0.8, 0.2])


def test_a_round_without_a_judged_text_does_not_count() -> None:
    rounds = Rounds(np.array([0, 0, 2]), np.ones(3))
    assert rounds.mean(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])) == pytest.approx([0.25, 0.75])


def test_more_texts_make_narrower_intervals_and_few_never_do() -> None:
    assert not found(100, seed=0).narrower(0.1, n=100)
    assert found(4000, seed=0).narrower(0.1, n=4000)
    alike = estimate(judge(), np.tile([1.0, 0.0, 0.0], (20, 1)), one_round(20), seed=0)
    assert np.ptp(alike.interval) == 1  # (0, 0, 1): the bootstrap of equal texts has no width at all
    assert not alike.narrower(0.15, n=20)  # a domain that 20 texts did not show may have 3/20
    assert alike.narrower(0.16, n=20)


def test_judges_of_other_reference_texts_make_the_interval_wider_and_leave_the_shares() -> None:
    rows, rounds = labels(300, seed=5), one_round(300)
    biases = np.random.default_rng(1).normal(scale=0.05, size=(50, 1, 1)) * np.array([1.0, -1.0, 0.0])

    def again(texts: Sequence[str], n: int, seed: int) -> np.ndarray:
        assert (len(texts), n, seed >= 0) == (300, 50, True)
        return np.clip(0.9 * rows + 0.1 / 3 + biases, 0, 1)

    sure = estimate(judge(), rows, rounds, seed=0)
    both = interval_with_judge(judge(again=again), ["text"] * 300, rounds, sure, n=50, seed=0)
    assert both is not None
    wide, narrow = (np.diff(each, axis=0)[0] for each in (both, sure.interval))
    assert (wide[:2] > 1.2 * narrow[:2]).all()
    assert wide[2] == pytest.approx(narrow[2], rel=0.25)
    assert np.mean(both, axis=0)[:2] == pytest.approx(sure.share[:2], abs=0.02), "softer judges do not move the shares"
    timid = interval_with_judge(judge(again=lambda *_: np.full((50, 300, 3), 1 / 3)), [], rounds, sure, n=50, seed=0)
    assert np.array_equal(timid or (), sure.interval), "never narrower than the texts alone make it"


def test_a_judge_that_cannot_be_fitted_again_gives_no_second_interval() -> None:
    sure = found(20, seed=0)
    for fitted, n in ((judge(), 50), (judge(again=None), 50), (judge(again=lambda *_: 1 / 0), 0)):
        assert interval_with_judge(fitted, ["text"] * 20, one_round(20), sure, n=n, seed=0) is None


def test_what_two_estimates_differ_by_turns_with_them() -> None:
    a, b = found(400, seed=1), found(500, seed=2, p=(0.3, 0.3, 0.4))
    there, back = difference(a, b), difference(b, a)
    assert there.share == pytest.approx(-back.share)
    assert there.share.sum() == pytest.approx(0, abs=1e-12)
    assert there.variation == back.variation == pytest.approx(np.abs(there.share).sum() / 2)
    assert there.variation_low <= there.variation <= there.variation_high
    assert there.low[0] < there.high[0] < 0 < there.low[2] < there.high[2]
    assert difference(a, a).variation == 0 == difference(a, a).variation_low


def test_the_interval_of_a_difference_is_that_of_two_independent_ones() -> None:
    """Both bootstraps come of one seed; were they paired, two equal estimates would differ by nothing."""
    a = found(500, seed=1)
    same = difference(a, a)
    width = np.diff(np.array([same.low, same.high]), axis=0)[0]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(2) * a.stderr, rel=0.12)


@pytest.mark.parametrize("other", [TRUTH, (0.5, 0.3, 0.2)])
def test_the_intervals_of_a_difference_hold_the_truth(other: tuple[float, ...]) -> None:
    share, variation = np.subtract(other, TRUTH), np.abs(np.subtract(other, TRUTH)).sum() / 2
    held, whole = [], []
    for seed in range(60):
        by = difference(found(300, seed=2 * seed), found(300, seed=2 * seed + 1, p=other))
        held.append((by.low <= share) & (share <= by.high))
        whole.append(by.variation_low <= variation <= by.variation_high)
    assert 0.9 <= np.mean(held) <= 0.99
    assert np.mean(whole) >= 0.9


def test_resamples_come_back_as_they_were(tmp_path: Path) -> None:
    shares = found(50, seed=0).resamples
    write_resamples(tmp_path / "resamples.parquet", shares, ("a", "b", "c"))
    assert (read_resamples(tmp_path / "resamples.parquet", ("a", "b", "c")) == shares).all()
    with pytest.raises(StoreError, match="not resampled shares of these domains; expected a, c, b"):
        read_resamples(tmp_path / "resamples.parquet", ("a", "c", "b"))
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(StoreError, match="missing columns"):
        read_resamples(tmp_path / "other.parquet", ("a",))
