"""The exact transport through a few pairs, with a proof that the others are not needed.

Potentials of the entropic problem say about what every pair's cost is worth above what its two points pay; the exact problem is
then solved on the pairs that are worth about nothing. Its dual is checked on all pairs. Where one is violated the pair comes in
and the problem is solved again, so the end is the optimum of the whole problem: a plan and a dual that meet.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.errors import FaultError
from composer.similarity.potentials import Device, potentials

STAGES = ((0.05, 10), (0.01, 30))
"""Regularisation and iterations of the potentials, for costs of mean one."""

PAIRS = 12
"""Pairs that are kept of every point at first, about."""

TOLERANCE = 1e-9
"""By how much, in mean costs, the dual may be violated by a pair."""

ITERATIONS = 5_000_000
_ROUNDS = 100  # to settle an assignment anew; to make a new one takes about as long

Vector = NDArray[np.float64]
Plan = tuple[NDArray[np.int64], NDArray[np.int64], Vector]


@dataclass(frozen=True, eq=False)
class Solved:
    """The least ``cost``, a plan of pairs ``(i, j, mass)``, and the potentials, with the largest violation of the dual."""

    cost: float
    plan: Plan
    f: Vector
    g: Vector
    violation: float


def solve(price: Vector, a: Vector, b: Vector, *, start: tuple[Vector, Vector] | None = None, device: Device = "cpu") -> Solved:
    """Return the least cost of moving the weights a (m,) to b (n,) at price (m, n), with its proof.

    The search begins from the potentials ``start``, or from those of the entropic problem, which may be found on a GPU.

    Raises
    ------
    FaultError
        Where the solver stops before the optimum.
    """
    scale = float(price.mean()) or 1.0
    worth = price / scale  # solvers tell numbers near zero from zero by a fixed measure
    if start is None:
        f, g = potentials(worth, a, b, stages=STAGES, device=device)
    else:
        f, g = start[0] / scale, start[1] / scale
    worth -= f[:, None]
    worth -= g
    even = len(a) == len(b) and np.ptp(a) == np.ptp(b) == 0
    (i, j, mass), u, v = _assigned(worth) if even else _transported(worth, a, b)
    worth -= u[:, None]
    worth -= v
    violation = max(-float(worth.min()), 0.0)
    return Solved(float(price[i, j] @ mass), (i, j, mass), (f + u) * scale, (g + v) * scale, violation * scale)


def _transported(worth: Vector, a: Vector, b: Vector) -> tuple[Plan, Vector, Vector]:
    """Return a plan and a dual that no pair violates by more than TOLERANCE."""
    pairs, room = _union(_cheapest(worth), _corner(a, b)), np.empty_like(worth)
    while True:
        plan, u, v = _on(pairs, worth, a, b)
        violated = _violated(worth, u, v, room)
        if not len(violated):
            return plan, u, v
        pairs = _union(pairs, violated)


def _violated(worth: Vector, u: Vector, v: Vector, room: Vector) -> NDArray[np.int64]:
    """Return the pairs that are paid more than they are worth; ``room`` is taken for the difference, which is large."""
    np.subtract(worth, u[:, None], out=room)
    np.subtract(room, v, out=room)
    return np.flatnonzero(room.ravel() < -TOLERANCE)


def _cheapest(worth: Vector) -> NDArray[np.int64]:
    """Return about PAIRS pairs for every point, those of least worth, and the best one of every point at least."""
    flat, (m, n) = worth.ravel(), worth.shape
    share = min(PAIRS * (m + n) / flat.size, 1.0)
    seen = flat[:: max(flat.size // 200_000, 1)]
    bound = np.quantile(seen, share)
    best = np.concatenate([np.arange(m) * n + worth.argmin(axis=1), worth.argmin(axis=0) * n + np.arange(n)])
    return _union(np.flatnonzero(flat <= bound), best)


def _union(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sorted numbers of either, each once; numpy's own goes through a table of hashes, which is slower here."""
    both = np.sort(np.concatenate([a, b]))
    return np.asarray(both[np.concatenate([[True], both[1:] != both[:-1]])], dtype=np.int64)


def _corner(a: Vector, b: Vector) -> NDArray[np.int64]:
    """Return pairs by which all mass can be moved: both clouds are laid out side by side and cut where either has a border."""
    ends = np.cumsum(a), np.cumsum(b)
    borders = np.concatenate([[0.0], np.sort(np.concatenate([ends[0][:-1], ends[1][:-1]])), [1.0]])
    middle = (borders[1:] + borders[:-1]) / 2
    i, j = (np.minimum(np.searchsorted(each, middle), len(each) - 1) for each in ends)
    return np.unique(i * len(b) + j)


def _on(pairs: NDArray[np.int64], worth: Vector, a: Vector, b: Vector) -> tuple[Plan, Vector, Vector]:
    from scipy.sparse import coo_matrix

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ot

        i, j = np.divmod(pairs, len(b))
        sparse = coo_matrix((worth.ravel()[pairs], (i, j)), shape=worth.shape)
        plan, log = ot.emd(a, b, sparse, numItermax=ITERATIONS, log=True, center_dual=False)
    if log["warning"] is not None:
        hint = "use {name: subsampled}"
        raise FaultError("the exact transport did not finish", where="similarity", got=log["warning"], hint=hint)
    return (plan.row.astype(np.int64), plan.col.astype(np.int64), plan.data), log["u"], log["v"]


def _assigned(worth: Vector) -> tuple[Plan, Vector, Vector]:
    """Return the best assignment of as many points of equal weight, and a dual that no pair violates by more than TOLERANCE."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    n = len(worth)
    pairs, room = _union(_cheapest(worth), np.arange(n) * (n + 1)), np.empty_like(worth)
    while True:
        cost = worth.ravel()[pairs]
        above = cost - cost.min() + 1  # for whom a zero is no pair; the best assignment stays the same
        i, j = min_weight_full_bipartite_matching(csr_matrix((above, np.divmod(pairs, n)), shape=worth.shape))
        paid = worth[i, j]
        v = _settled(pairs, cost, j, paid, np.zeros(n), rounds=2 * n)
        while v is not None:  # the assignment may be the best one still when more pairs come in
            u = paid - v[j]
            violated = _violated(worth, u, v, room)
            if not len(violated):
                return (i.astype(np.int64), j.astype(np.int64), np.full(n, 1 / n)), u, v
            pairs = _union(pairs, violated)
            v = _settled(pairs, worth.ravel()[pairs], j, paid, v, rounds=_ROUNDS)


def _settled(
    pairs: NDArray[np.int64], cost: Vector, mate: NDArray[Any], paid: Vector, v: Vector, *, rounds: int
) -> Vector | None:
    """Return what columns pay where rows pay the rest of their own pair, and no pair of these is paid more than it is worth.

    A column pays at most what the cheapest of its rows leaves it; lowered from ``v`` in turns, that settles where the
    assignment is the best one on these pairs, since no circle of them would then lower it for ever. None where it has not
    after ``rounds``.
    """
    row, column = np.divmod(pairs, len(paid))
    order = np.argsort(column, kind="stable")
    row, cost, starts = row[order], cost[order], np.searchsorted(column[order], np.arange(len(paid)))
    for _ in range(rounds):
        lower = np.minimum.reduceat(cost - (paid - v[mate])[row], starts)
        if not (lower < v - TOLERANCE / 2).any():
            return v
        v = np.minimum(v, lower)
    return None
