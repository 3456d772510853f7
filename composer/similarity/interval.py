"""A proven interval around the least cost: a dual that every pair obeys below, a plan that moves all mass above.

Both come from potentials of the entropic problem, and both hold for any potentials and any cost, whether it is a metric or not;
better potentials only bring them closer. So they are made better by stages until the interval is narrow enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from composer.similarity.certified import solve
from composer.similarity.potentials import Device, Stage, kernel, potentials

STAGES: tuple[tuple[Stage, ...], ...] = (((0.05, 10), (0.01, 20), (0.004, 30)), ((0.002, 60),))
"""Regularisation and iterations, for costs of mean one, up to the first look at the interval and to the second."""

_CELLS = 1 << 19  # pairs of a block: a few megabytes, which stay in the cache

Vector = NDArray[np.float64]


class Interval(NamedTuple):
    """The least cost lies between ``low`` and ``high``; they are equal where it was solved exactly."""

    low: float
    high: float


def interval(price: Vector, a: Vector, b: Vector, *, gap: float, device: Device = "cpu") -> Interval:
    """Return an interval of at most ``gap * high`` that holds the least cost of moving a (m,) to b (n,) at price (m, n).

    Where the stages end with a wider one, the problem is solved exactly from the potentials at hand.

    Raises
    ------
    FaultError
        Where the exact solver stops before the optimum.

    References
    ----------
    Altschuler, Weed and Rigollet, arXiv:1705.09634, algorithm 2 (the plan); Peyre and Cuturi, arXiv:1803.00567, section 3.2
    (the dual).
    """
    scale = float(price.mean()) or 1.0
    worth = price / scale
    low, high, f, g = 0.0, np.inf, worth.min(axis=1), np.zeros(len(b))
    for stages in STAGES:
        f, g = potentials(worth, a, b, stages=stages, start=(f, g), device=device)
        low = max(low, _dual(worth, a, b, g))
        high = min(high, _plan(worth, a, b, f, g, e=stages[-1][0]))
        if high - low <= gap * high:
            return Interval(min(low, high) * scale, high * scale)  # they may cross by a rounding error where both are exact
    exact = solve(price, a, b, start=(f * scale, g * scale), device=device).cost
    return Interval(exact, exact)


def _dual(price: Vector, a: Vector, b: Vector, g: Vector) -> float:
    """Return what the dual pays with ``f_i = min_j C_ij - g_j``, and g then raised to ``min_i C_ij - f_i``."""
    f = np.concatenate([(price[rows] - g).min(axis=1) for rows in _blocks(price)])
    g = np.minimum.reduce([(price[rows] - f[rows, None]).min(axis=0) for rows in _blocks(price)])
    return float(f @ a + g @ b)


def _plan(price: Vector, a: Vector, b: Vector, f: Vector, g: Vector, *, e: float) -> float:
    """Return the cost of the entropic plan, scaled down where it moves too much and filled up where it moves too little.

    What is missing is moved by the product of what rows and columns lack.
    """
    k = kernel(price, f, g, e)
    x, columns = np.empty(len(a)), np.zeros(len(b))
    for rows in _blocks(price):
        block = k[rows].astype(np.float64)
        sums = a[rows] * (block @ b)
        x[rows] = a[rows] * np.minimum(1, a[rows] / np.maximum(sums, np.finfo(np.float64).tiny))
        columns += x[rows] @ block
    y = b * np.minimum(1, b / np.maximum(columns * b, np.finfo(np.float64).tiny))
    lacking_b = np.maximum(b - y * columns, 0)
    lacking_a, cost = np.empty(len(a)), 0.0
    for rows in _blocks(price):
        block = k[rows].astype(np.float64)
        lacking_a[rows] = np.maximum(a[rows] - x[rows] * (block @ y), 0)
        block *= price[rows]
        cost += float(x[rows] @ (block @ y))
    left = float(lacking_a.sum())
    return cost if left == 0 else cost + float(lacking_a @ price @ lacking_b) / left


def _blocks(price: Vector) -> Iterator[slice]:
    step = max(_CELLS // price.shape[1], 1)
    return (slice(at, at + step) for at in range(0, len(price), step))
