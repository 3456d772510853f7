"""The exact least cost of moving one cloud into another: at once for small clouds, through a few pairs for larger ones."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from composer.errors import FaultError, InputError
from composer.similarity.base import Cloud
from composer.similarity.certified import solve
from composer.similarity.potentials import Device

SMALL = 500
"""Points up to which the whole problem is given to the solver, which is then as fast."""

_ITERATIONS = 2_000_000
_NEAR = 1e-5  # of the largest squares: above, the product leaves ten digits of a distance
_PAIRS = 10_000  # differences that are held at once

Cost = Literal["cosine", "euclidean"]


def costs(x: NDArray[np.float32], y: NDArray[np.float32], *, cost: Cost) -> NDArray[np.float64]:
    """Return the (m, n) float64 cost of every pair of rows.

    Raises
    ------
    InputError
        For rows of zero length under the cosine cost, and rows of different dimensions.
    """
    if x.shape[1] != y.shape[1]:
        raise InputError("clouds of different dimensions", where="similarity", expected=f"{x.shape[1]}", got=y.shape[1])
    a, b = x.astype(np.float64), y.astype(np.float64)
    if cost == "euclidean":
        return _lengths(a, b)
    price = _directions(a) @ _directions(b).T
    np.subtract(1, price, out=price)
    return np.asarray(np.clip(price, 0, 2, out=price), dtype=np.float64)


def _lengths(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Euclidean distances by one matrix product; where it would cancel, the few near pairs by their differences."""
    centre = a.mean(axis=0)  # far from the origin all pairs would be near
    a, b = a - centre, b - centre
    squares = (a**2).sum(axis=1), (b**2).sum(axis=1)
    price = a @ b.T
    price *= -2
    price += squares[0][:, None]
    price += squares[1]
    i, j = np.nonzero(price <= _NEAR * (squares[0].max() + squares[1].max()))
    for at in range(0, len(i), _PAIRS):
        some = slice(at, at + _PAIRS)
        price[i[some], j[some]] = np.square(a[i[some]] - b[j[some]]).sum(axis=1)
    return np.asarray(np.sqrt(price, out=price))


def _directions(x: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not length.all():
        hint = "an empty text has no direction: drop it, or use {cost: euclidean}"
        raise InputError(
            "an embedding of zero length has no cosine", where="similarity", got=f"{(length == 0).sum()} rows", hint=hint
        )
    return np.asarray(x / length, dtype=np.float64)


def transport(a: Cloud, b: Cloud, *, cost: Cost, device: Device = "cpu") -> float:
    """Return the least cost of moving the weights of a to those of b.

    Raises
    ------
    FaultError
        Where the solver stops before the optimum.
    """
    return least(costs(a.vectors, b.vectors, cost=cost), a.weights, b.weights, device=device)


def least(price: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64], *, device: Device = "cpu") -> float:
    """Return the least cost of moving the weights a (m,) to b (n,) at price (m, n).

    Raises
    ------
    FaultError
        Where the solver stops before the optimum.
    """
    if min(price.shape) > SMALL:
        return solve(price, a, b, device=device).cost
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first import warns of its own source; an unfinished solver, of what its log says
        import ot

        value, log = ot.emd2(a, b, price, numItermax=_ITERATIONS, log=True)
    if log["warning"] is not None:
        hint = "use {name: subsampled}"
        raise FaultError("the exact transport did not finish", where="similarity", got=log["warning"], hint=hint)
    return float(value)
