"""Weights held between a floor and a cap, by one number for all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from composer.errors import InputError, SpecError
from composer.laws.update import Vector
from composer.types import TOLERANCE

_LEAST = np.finfo(np.float64).tiny  # a bound over less than this is no finite number


def bounded(weights: ArrayLike, *, floor: float, cap: float) -> Vector:
    """Return ``clip(lambda w_j, floor, cap)`` for the one lambda with which the sum is one.

    The sum is piecewise linear in lambda and rises from ``k floor`` to ``k cap``, so that lambda is read off between its knots.
    Shares that lie within the bounds come back as they are, bit for bit. Where all that weigh anything are at the cap, those of
    weight zero share what is left evenly.

    Parameters
    ----------
    weights
        (k,) of any scale, not negative, not all zero.
    floor, cap
        What no share falls below and none exceeds, with ``floor k <= 1 <= cap k``.

    Returns
    -------
    (k,) float64 with sum one; a larger weight never gets the smaller share.

    Raises
    ------
    SpecError
        For bounds that k shares cannot keep.
    InputError
        For weights that are no shares.

    Examples
    --------
    >>> bounded([6, 3, 1, 0], floor=0.0625, cap=0.5).round(6).tolist()
    [0.5, 0.328125, 0.109375, 0.0625]
    >>> bounded([0.75, 0.25, 0.0], floor=0, cap=0.5).tolist()
    [0.5, 0.5, 0.0]
    """
    p = np.asarray(weights, dtype=np.float64)
    if not (p.ndim == 1 and np.isfinite(p).all() and (p >= 0).all() and p.any()):
        expected = "finite numbers, none negative, one above zero"
        raise InputError("weights that are no shares", where="weights", expected=expected, got=p.tolist())
    check_bounds(p.size, floor=floor, cap=cap)
    if abs(p.sum() - 1) > 1e-12:
        p = p / p.max()
        p = p / p.sum()
    if (p >= floor).all() and (p <= cap).all():
        return p.copy()
    p = np.where(p < _LEAST, 0.0, p)
    some = p > 0
    knots = np.unique(np.concatenate([floor / p[some], cap / p[some]]))
    sums = np.clip(np.outer(knots, p), floor, cap).sum(axis=1)
    out = np.clip(np.interp(1.0, sums, knots) * p, floor, cap)
    if sums[-1] < 1:
        out[~some] = min((1 - out[some].sum()) / max((~some).sum(), 1), cap)
    return np.asarray(out, dtype=np.float64)


def check_bounds(k: int, *, floor: float, cap: float) -> None:
    """Refuse bounds that k shares with the sum one cannot keep.

    Raises
    ------
    SpecError
        Where ``floor k <= 1 <= cap k`` does not hold; the field is named.
    """
    if floor * k > 1 + TOLERANCE:
        raise SpecError("a floor that the domains cannot all have", where="floor", expected=f"0 to 1/{k}", got=floor)
    if cap * k < 1 - TOLERANCE:
        raise SpecError("a cap under which the domains do not make a whole", where="cap", expected=f"1/{k} to 1", got=cap)
