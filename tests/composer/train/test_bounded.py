"""Bounds on weights are kept by water-filling: exactly, in order, and without touching what keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import InputError
from composer.train.reweight.bounded import bounded

few = settings(max_examples=60, deadline=None)
NAN = float("nan")

SHARES = st.lists(st.one_of(st.floats(0, 1), st.just(0.0), st.floats(1e-12, 1e-6)), min_size=1, max_size=7).filter(
    lambda w: sum(w) > 0
)


@given(weights=SHARES, low=st.floats(0, 1), high=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_bounded_is_water_filling(weights: list[float], low: float, high: float) -> None:
    k = len(weights)
    floor, cap = low / k, 1 / k + high * (1 - 1 / k)
    out = bounded(weights, floor=floor, cap=cap)
    assert out.sum() == pytest.approx(1, abs=1e-12)
    assert out.min() >= floor
    assert out.max() <= cap
    assert (np.diff(out[np.argsort(weights, kind="stable")]) >= -1e-15).all()
    assert bounded(out, floor=floor, cap=cap).tobytes() == out.tobytes()
    inside = [(w, o) for w, o in zip(weights, out, strict=True) if w > 1e-9 and floor + 1e-9 < o < cap - 1e-9]
    if inside:  # one lambda for all of them
        np.testing.assert_allclose([o / w for w, o in inside], inside[0][1] / inside[0][0], rtol=1e-5)


@given(weights=st.lists(st.floats(0.01, 1), min_size=2, max_size=7))
@few
def test_bounded_leaves_alone_what_oversteps_nothing(weights: list[float]) -> None:
    shares = np.array(weights) / np.sum(weights)
    assert bounded(shares, floor=0, cap=1).tobytes() == shares.tobytes()
    assert bounded(shares, floor=shares.min(), cap=shares.max()).tobytes() == shares.tobytes()


def test_bounded_by_hand() -> None:
    np.testing.assert_allclose(bounded([0.9, 0.1, 0.0], floor=0.05, cap=1), [0.855, 0.095, 0.05], rtol=1e-14)
    np.testing.assert_allclose(bounded([8, 1, 1], floor=0, cap=0.5), [0.5, 0.25, 0.25], rtol=1e-14)
    np.testing.assert_allclose(bounded([1, 0, 0], floor=0.01, cap=0.5), [0.5, 0.25, 0.25], rtol=1e-14)
    np.testing.assert_allclose(bounded([5, 3, 1], floor=1 / 3, cap=1), [1 / 3] * 3, rtol=1e-14)
    np.testing.assert_allclose(bounded([5, 3, 1], floor=0, cap=1 / 3), [1 / 3] * 3, rtol=1e-14)
    np.testing.assert_allclose(bounded([1e300, 1e-300], floor=0, cap=0.75), [0.75, 0.25], rtol=1e-14)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [-1.0, 2.0], [NAN, 1.0], [float("inf"), 1.0], [[1.0]]])
def test_what_is_no_share_is_refused(weights: Any) -> None:
    with pytest.raises(InputError, match="weights that are no shares; expected finite numbers"):
        bounded(weights, floor=0, cap=1)
