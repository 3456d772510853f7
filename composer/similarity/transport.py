"""The exact least cost of moving one cloud into another: at once for small clouds, through a few pairs for larger ones."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from composer.errors import FaultError, InputError
from composer.similarity.base import Cloud
from composer.similarity.certified import solve

SMALL = 500
"""Points up to which the whole problem is given to the solver, which is then as fast."""

_ITERATIONS = 2_000_000

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
        from scipy.spatial.distance import cdist

        return np.asarray(cdist(a, b), dtype=np.float64)
    return np.asarray(np.clip(1 - _directions(a) @ _directions(b).T, 0, 2), dtype=np.float64)


def _directions(x: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not length.all():
        hint = "an empty text has no direction: drop it, or use {cost: euclidean}"
        raise InputError(
            "an embedding of zero length has no cosine", where="similarity", got=f"{(length == 0).sum()} rows", hint=hint
        )
    return np.asarray(x / length, dtype=np.float64)


def transport(a: Cloud, b: Cloud, *, cost: Cost) -> float:
    """Return the least cost of moving the weights of a to those of b.

    Raises
    ------
    FaultError
        Where the solver stops before the optimum.
    """
    price = costs(a.vectors, b.vectors, cost=cost)
    if min(len(a), len(b)) > SMALL:
        return solve(price, a.weights, b.weights).cost
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first import warns of its own source; an unfinished solver, of what its log says
        import ot

        value, log = ot.emd2(a.weights, b.weights, price, numItermax=_ITERATIONS, log=True)
    if log["warning"] is not None:
        hint = "use {name: subsampled}"
        raise FaultError("the exact transport did not finish", where="similarity", got=log["warning"], hint=hint)
    return float(value)
