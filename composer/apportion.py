"""Shares into whole counts, and counts into an order: the only place where a real number becomes a number of rows or tokens.

Both directions keep an exact promise. ``apportion`` gives counts that sum to the total to the unit, within capacities.
``interleave`` gives an order in which every beginning is nearly as mixed as the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.errors import InputError

_TOTAL_LIMIT = 2**48  # below it a quota in float64 is right to a small part of a unit
_TIE_DIGITS = 9  # fractional parts closer than this are a tie, so that rounding noise never decides who gets a unit


def apportion(weights: ArrayLike, total: int, *, capacity: ArrayLike | None = None, minimum: int = 0) -> NDArray[np.int64]:
    """Return whole counts in proportion to the weights whose sum is exactly the total.

    Entry i has the quota ``q_i = min(max(lambda w_i, m_i), c_i)``, where ``m_i = min(minimum, c_i)`` and ``lambda`` is the one
    number for which the quotas sum to the total: a quota above its capacity is clipped, and the surplus goes to the others in
    proportion. Quotas become whole by the largest remainder: all are floored, and the missing units go one by one to the
    largest fractional parts, of equal ones to the lower index. An entry of weight zero gets its minimum and never more.

    Parameters
    ----------
    weights
        (k,) not negative, not all zero; they need not sum to one.
    total
        What is to be shared out.
    capacity
        (k,) the most that each entry can take; without it there is no bound.
    minimum
        What each entry gets at least, as far as its capacity goes.

    Returns
    -------
    (k,) int64, with the sum ``total``, or all that the entries can take where that is less.

    Raises
    ------
    InputError
        For weights that are negative, not finite or all zero, for a negative capacity, and for a total below the minimums.

    References
    ----------
    The largest remainder is Hamilton's method (Balinski and Young, Fair Representation, 1982). The minimum of one is InsCL's
    (arXiv:2403.11435, released code).

    Examples
    --------
    >>> apportion([3, 2, 2], 100).tolist()
    [43, 29, 28]
    >>> apportion([3, 2, 2], 100, capacity=[10, 50, 100]).tolist()
    [10, 45, 45]
    >>> apportion([1, 0, 1, 2], 8, minimum=1).tolist()
    [2, 1, 2, 3]
    """
    w = _weights(weights)
    if not 0 <= total < _TOTAL_LIMIT:
        raise InputError("the total cannot be shared out", where="apportion", expected="0 to 2**48", got=total)
    room = np.full(w.size, _TOTAL_LIMIT) if capacity is None else _capacity(capacity, size=w.size)
    low, high = np.minimum(minimum, room), np.minimum(room, total)
    least, most = (int(bound.sum(dtype=np.float64)) for bound in (low, np.where(w > 0, high, low)))
    if total < least:
        raise InputError("the total is below the minimums", where="apportion", expected=f"{least} or more", got=total)
    return _largest_remainder(_quotas(w, min(total, most), low=low, high=high), min(total, most))


def _weights(weights: ArrayLike) -> NDArray[np.float64]:
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 1 or not np.isfinite(w).all() or (w < 0).any() or not (w > 0).any():
        expected = "finite numbers, none negative, at least one above zero"
        raise InputError("weights that nothing can be shared out by", where="apportion", expected=expected, got=w.tolist()[:8])
    return w


def _capacity(capacity: ArrayLike, *, size: int) -> NDArray[np.int64]:
    c = np.asarray(capacity, dtype=np.int64)
    if c.shape != (size,) or (c < 0).any():
        expected = f"{size} counts, none negative"
        raise InputError("capacities that do not fit the weights", where="apportion", expected=expected, got=c.tolist()[:8])
    return c


def _quotas(w: NDArray[np.float64], total: int, *, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``clip(lambda w, low, high)`` with the sum ``total``, in at most one pass per entry.

    Each pass shares what is left among the free entries and settles those that overstep the side that is overstepped more:
    whatever the rest comes to, they stay at that bound.
    """
    quota, free = low.astype(np.float64), np.flatnonzero(w)
    left = total - low[w == 0].sum()
    while free.size:
        ratio = w[free] / w[free].max()
        share = left * (ratio / ratio.sum())
        clipped = np.clip(share, low[free], high[free])
        excess = (clipped - share).sum()
        settled = (excess == 0) | (np.sign(clipped - share) == np.sign(excess))
        quota[free[settled]] = clipped[settled]
        left -= clipped[settled].sum()
        free = free[~settled]
    return quota


def _largest_remainder(quota: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    count = np.floor(quota).astype(np.int64)
    by_part = np.argsort(-np.round(quota - count, _TIE_DIGITS), kind="stable")
    count[by_part[: total - int(count.sum())]] += 1
    return count


def interleave(counts: Sequence[int] | NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return an order of group labels with ``counts[g]`` of each, in which every prefix is nearly proportional.

    Group g takes its turns at the times ``(j + u_g) / n_g``, j = 0, 1, ..., with one random offset ``u_g`` in [0, 1) per group,
    and all turns are sorted by time. Up to any time t a group has had ``t n_g`` turns give or take one, so with k non-empty
    groups and N turns in all, among the first m turns there are

        ``|count_g - m n_g / N| <= 1 + (k - 2) n_g / N``,

    which is at most one turn from the exact share for two groups, and less than two for k groups of equal size.

    Parameters
    ----------
    counts
        (k,) how often each label comes.
    rng
        Where the offsets come from.

    Returns
    -------
    (N,) int64 labels.

    Examples
    --------
    >>> interleave([2, 4], np.random.default_rng(0)).tolist()
    [1, 1, 0, 1, 1, 0]
    """
    n = np.asarray(counts, dtype=np.int64)
    labels = np.repeat(np.arange(n.size), n)
    turn = np.arange(labels.size) - np.repeat(np.cumsum(n) - n, n)
    offset = rng.random(n.size)
    time = (turn + offset[labels]) / n[labels]
    return np.asarray(labels[np.argsort(time, kind="stable")], dtype=np.int64)
