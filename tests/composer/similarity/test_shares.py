"""The shares of replay by distance: the same as the policy's, and errors that hold what they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import InputError, SpecError
from composer.replay import REPLAY
from composer.similarity.shares import replay_shares, share_errors
from composer.spec import rng
from composer.types import Mixture, Phase, ReplayContext, Schedule, SimilarityMatrix

NAMES = tuple("abcdef")


def symmetric(upper: np.ndarray) -> tuple[tuple[float, ...], ...]:
    off = np.triu(upper, 1)
    return tuple(map(tuple, (off + off.T).tolist()))


def matrix(value: np.ndarray, **more: object) -> SimilarityMatrix:
    return SimilarityMatrix(domains=NAMES[: len(value)], value=symmetric(value), measure="m", **more)


@given(seed=st.integers(0, 999), n=st.integers(1, 4), n_current=st.integers(1, 2))
@settings(max_examples=30, deadline=None)
def test_they_are_the_policy_s_and_exact_distances_leave_no_error(seed: int, n: int, n_current: int) -> None:
    dice = rng(seed, "shares")
    given = matrix(dice.random((n + n_current, n + n_current)))
    earlier, current = NAMES[:n], NAMES[n : n + n_current]
    weights = tuple(dice.dirichlet(np.ones(n_current)).tolist())
    found = replay_shares(given, earlier=earlier, current=current, weights=weights)
    context = ReplayContext(
        stage=1, earlier=earlier, current=current, weights=weights, available=(10**6,) * n, similarity=given
    )
    policy = REPLAY["distance"]().shares(context)
    assert found.share == pytest.approx(policy / policy.sum(), abs=1e-15)
    assert sum(found.share) == pytest.approx(1)
    assert found.domains == earlier
    assert found.low == found.share == found.high
    assert found.stderr == (0.0,) * n
    assert found.variation == 0


@given(seed=st.integers(0, 9999), n=st.integers(1, 5), zeros=st.booleans())
@settings(max_examples=60, deadline=None)
def test_intervals_hold_the_share_of_any_distances_within_them(seed: int, n: int, zeros: bool) -> None:
    dice = rng(seed, "bounds")
    low, width = dice.random((2, n + 1, n + 1)) * (dice.random((2, n + 1, n + 1)) < (0.5 if zeros else 1))
    high = low + width
    found = replay_shares(
        matrix((low + high) / 2, low=symmetric(low), high=symmetric(high)), earlier=NAMES[:n], current=NAMES[n], weights=(1,)
    )
    assert found.low is not None
    assert found.high is not None
    assert found.variation is not None
    for at in (0.0, 0.3, 1.0, None):
        inside = low + width * (dice.integers(0, 2, size=width.shape) if at is None else at)
        other = replay_shares(matrix(inside), earlier=NAMES[:n], current=NAMES[n], weights=(1,))
        assert (np.array(found.low) <= np.array(other.share) + 1e-12).all()
        assert (np.array(found.high) >= np.array(other.share) - 1e-12).all()
        assert np.abs(np.subtract(found.share, other.share)).sum() / 2 <= found.variation + 1e-12
    assert found.stderr == (0.0,) * n


def test_bounds_by_hand() -> None:
    low, high = np.zeros((2, 3, 3))
    low[0, 2], low[1, 2], high[0, 2], high[1, 2] = 1, 2, 2, 3
    found = replay_shares(
        matrix((low + high) / 2, low=symmetric(low), high=symmetric(high)), earlier=("a", "b"), current=("c",), weights=(1,)
    )
    assert found.share == pytest.approx((1.5 / 4, 2.5 / 4))
    assert found.low == pytest.approx((1 / 4, 2 / 4))  # 1 / (1 + 3) and 2 / (2 + 2)
    assert found.high == pytest.approx((2 / 4, 3 / 4))  # 2 / (2 + 2) and 3 / (3 + 1)
    assert found.variation == pytest.approx(1 / 8)


def test_the_jackknife_by_hand() -> None:
    repeats = [np.zeros((3, 3)) for _ in range(2)]
    (repeats[0][0, 2], repeats[0][1, 2]), (repeats[1][0, 2], repeats[1][1, 2]) = (1, 3), (2, 2)
    found = replay_shares(
        matrix(np.mean(repeats, axis=0), repeats=tuple(map(symmetric, repeats))),
        earlier=("a", "b"),
        current=("c",),
        weights=(1,),
    )
    assert found.share == pytest.approx((3 / 8, 5 / 8))
    assert found.stderr == pytest.approx((1 / 8, 1 / 8))  # 1/4 and 1/2 with the other left out: sqrt(1/2 * 2 * (1/8)^2)
    assert found.variation == pytest.approx(1 / 8)
    assert (found.low, found.high) == (None, None)


def test_the_standard_error_is_that_of_shares_drawn_again() -> None:
    dice, truth, r = rng(1, "again"), np.array([0.5, 0.7, 1.1]), 6
    drawn = []
    for _ in range(400):
        repeats = np.zeros((r, 4, 4))
        repeats[:, :3, 3] = truth * (1 + 0.05 * dice.normal(size=(r, 3)))
        given = matrix(repeats.mean(axis=0), repeats=tuple(map(symmetric, repeats)))
        drawn.append(replay_shares(given, earlier=NAMES[:3], current=("d",), weights=(1,)))
    shares = np.array([each.share for each in drawn])
    said = np.sqrt(np.square([each.stderr for each in drawn]).mean(axis=0))
    assert said == pytest.approx(shares.std(axis=0), rel=0.15)
    off = np.abs(shares - truth / truth.sum()).sum(axis=1).mean() / 2
    assert np.mean([each.variation for each in drawn]) == pytest.approx(off, rel=0.15)


def test_repeats_that_agree_have_no_error_and_an_error_without_repeats_is_not_known() -> None:
    value = symmetric(np.ones((3, 3)))
    found = replay_shares(matrix(np.ones((3, 3)), repeats=(value,) * 3), earlier=("a", "b"), current=("c",), weights=(1,))
    assert (found.stderr, found.variation) == ((0, 0), 0)
    found = replay_shares(matrix(np.ones((3, 3)), stderr=value), earlier=("a", "b"), current=("c",), weights=(1,))
    assert (found.stderr, found.low, found.variation) == (None, None, None)


def test_zero_distances_share_equally_and_no_past_has_no_shares() -> None:
    assert replay_shares(matrix(np.zeros((3, 3))), earlier=("a", "b"), current=("c",), weights=(1,)).share == (0.5, 0.5)
    assert replay_shares(matrix(np.zeros((2, 2))), earlier=(), current=("b",), weights=(1,)).share == ()


def test_what_gives_no_shares_is_refused() -> None:
    given = matrix(np.ones((2, 2)))
    with pytest.raises(SpecError, match="no distance to a domain; expected among a, b; got x"):
        replay_shares(given, earlier=("x",), current=("b",), weights=(1,))
    with pytest.raises(InputError, match="weights that do not fit the current domains; expected 1 finite numbers"):
        replay_shares(given, earlier=("a",), current=("b",), weights=(1, 2))
    with pytest.raises(InputError, match="weights that do not fit the current domains"):
        replay_shares(given, earlier=("a",), current=("b",), weights=(float("nan"),))
    alike = SimilarityMatrix(domains=("a", "b"), value=((1, 0), (0, 1)), kind="similarity", measure="m")
    with pytest.raises(SpecError, match="shares by distance need distances; expected distance; got similarity"):
        replay_shares(alike, earlier=("a",), current=("b",), weights=(1,))


def test_a_schedule_has_the_shares_of_every_phase_with_a_past() -> None:
    given = matrix(rng(3, "phases").random((4, 4)))
    mixtures = [{"b": 1.0}, {"c": 0.6, "d": 0.2, "b": 0.2}]
    phases = tuple(
        Phase(
            name=f"p{i}", amount=10, current=current,
            mixture=Mixture(domains=tuple(weights), weights=tuple(weights.values())),
        )
        for i, (current, weights) in enumerate(zip([("b",), ("c", "d")], mixtures, strict=True))
    )  # fmt: skip
    told = share_errors(given, Schedule(phases=phases), earlier=("a",))
    assert [(each["phase"], each["domains"], each["variation"]) for each in told] == [
        ("p0", ("a",), 0.0),
        ("p1", ("a", "b"), 0.0),
    ]
    expected = replay_shares(given, earlier=("a", "b"), current=("c", "d"), weights=(0.75, 0.25))
    assert told[1]["share"] == pytest.approx(expected.share)
    json.dumps(told)
    assert [each["phase"] for each in share_errors(given, Schedule(phases=phases))] == ["p1"]
