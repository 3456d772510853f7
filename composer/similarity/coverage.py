"""Which earlier instructions the new ones do not cover, by transport of as much mass as is worth moving."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.errors import FaultError, SpecError
from composer.similarity.base import Cloud, joined
from composer.similarity.certified import Plan, solve
from composer.similarity.potentials import Device
from composer.similarity.transport import SMALL, Cost, costs

TIE = 1e-7
"""Added to ``near``, so that what costs as much as ``near`` is covered whatever its last digits."""

MAX_POINTS = 10_000
"""Distinct points of either side up to which the costs of all pairs are held, in some 50 bytes each."""

_ITERATIONS = 5_000_000

Vector = NDArray[np.float64]


class Coverage(NamedTuple):
    """Of every old row, in the order given: the share ``uncovered`` in [0, 1], and the cost of the ``nearest`` new point.

    ``plan`` is what covers what: old rows i, new rows j, and the mass moved, of the old ones' mass of one.
    """

    uncovered: Vector
    nearest: Vector
    plan: Plan


def cover(
    old: ArrayLike, old_weights: ArrayLike | None, new: ArrayLike, new_weights: ArrayLike | None, *, near: float,
    cost: Cost = "cosine", device: Device = "auto",
) -> Coverage:  # fmt: skip
    """Return how much of every old row has no new point that is near and has room for it.

    ``min over pi >= 0 of sum_ij pi_ij C_ij + near * (1 - sum_ij pi_ij)``, rows of pi summing to the old weights a at most and
    columns to the new weights b; the share is ``1 - sum_j pi_ij / a_i``. It is solved exactly, as a balanced problem with one
    more point on each side: mass that stays costs ``near``, and room that stays empty costs nothing. Equal rows are one point,
    which they share by their weights. Where several plans are best one is taken, the same for every order of the rows.

    Parameters
    ----------
    old, new
        (m, d) and (n, d) vectors.
    old_weights, new_weights
        (m,) and (n,) weights of any scale; None: the same for all rows. An old row without weight is covered as far as rows
        that are equal to it are; it is uncovered where there are none.
    near
        The cost above which a point is not moved; zero covers only what costs nothing, infinity all there is room for.
    cost
        ``1 - cos`` or the Euclidean distance.
    device
        Where potentials are sought for large problems.

    Raises
    ------
    SpecError
        For ``near`` below zero or not a number, and more points than the memory is for.
    InputError
        For vectors and weights that are no cloud, vectors of zero length under the cosine cost, and unequal dimensions.
    FaultError
        Where the solver stops before the optimum.

    References
    ----------
    Figalli, Arch. Ration. Mech. Anal. 195 (2010) (partial transport); Chapel, Alaya and Gasso, arXiv:2002.08276, section 3 (the
    added points).

    Examples
    --------
    >>> found = cover([[1, 0], [0, 1]], None, [[1, 0]], None, near=0.5)
    >>> found.uncovered.tolist(), found.nearest.tolist()
    ([0.0, 1.0], [0.0, 1.0])
    """
    if not near >= 0:
        raise SpecError("a cost to stay within that is none", where="near", expected="a number from zero", got=near)
    clouds = Cloud(old, old_weights), Cloud(new, new_weights)
    if max(map(len, clouds)) > MAX_POINTS:
        got, hint = " and ".join(str(len(cloud)) for cloud in clouds), "take a sample of either side"
        raise SpecError("too many points", where="coverage", expected=f"at most {MAX_POINTS}", got=got, hint=hint)
    here, there = _side(old, old_weights), _side(new, new_weights)
    price = costs(here.points, clouds[1].vectors, cost=cost)
    a, b = (cloud.weights for cloud in clouds)
    i, j, mass = _partial(price[here.heavy], a, b, near=near, device=device)
    left = np.ones(len(here.points))
    left[here.heavy] = np.clip(1 - np.bincount(i, mass, minlength=len(a)) / a, 0, 1)
    return Coverage(left[here.which], price.min(axis=1)[here.which], _by_rows((i, j, mass), here, there))


@dataclass(frozen=True, eq=False)
class _Side:
    """The distinct ``points`` of a side, those of them with weight, and of every row its point and its share of the point's."""

    points: NDArray[np.float32]
    heavy: NDArray[np.int64]
    which: NDArray[np.int64]
    share: Vector

    def rows_of(self, of: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows of the given points with weight, one after another, and for each its place in ``of``."""
        order = np.argsort(self.which, kind="stable")
        count = np.bincount(self.which)
        starts, n = (np.cumsum(count) - count)[self.heavy[of]], count[self.heavy[of]]
        place = np.repeat(np.arange(len(of)), n)
        return order[starts[place] + np.arange(len(place)) - np.repeat(np.cumsum(n) - n, n)], place


def _side(rows: ArrayLike, weights: ArrayLike | None) -> _Side:
    points, which = joined(np.asarray(rows, dtype=np.float32))
    w = np.ones(len(which)) if weights is None else np.asarray(weights, dtype=np.float64)
    mass = np.bincount(which, weights=w)
    return _Side(points, np.flatnonzero(mass > 0), which, w / np.where(mass > 0, mass, 1)[which])


def _by_rows(plan: Plan, here: _Side, there: _Side) -> Plan:
    """Return a plan between points as one between rows: rows of a point take its mass by their weights."""
    i, j, mass = plan
    old, k = here.rows_of(i)
    j, mass = j[k], mass[k] * here.share[old]
    new, k = there.rows_of(j)
    old, mass = old[k], mass[k] * there.share[new]
    moved = mass > 0
    return old[moved], new[moved], mass[moved]


def _partial(price: Vector, a: Vector, b: Vector, *, near: float, device: Device) -> Plan:
    """Return what is best moved of the weights a (m,) to b (n,): the balanced plan less what the added points take."""
    m, n = price.shape
    stay = min(near, 2 * float(price.max()) + 1) + TIE  # any cost above all others keeps nothing that there is room for
    wider = np.zeros((m + 1, n + 1))
    wider[:m, :n], wider[:m, n] = price, stay
    i, j, mass = _balanced(wider, np.append(a, 1.0) / 2, np.append(b, 1.0) / 2, device=device)
    moved = (i < m) & (j < n)
    return i[moved], j[moved], 2 * mass[moved]


def _balanced(price: Vector, a: Vector, b: Vector, *, device: Device) -> Plan:
    if min(price.shape) > SMALL:
        return solve(price, a, b, device=device).plan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first import warns of its own source; an unfinished solver, of what its log says
        import ot

        plan, log = ot.emd(a, b, price, numItermax=_ITERATIONS, log=True)
    if log["warning"] is not None:
        hint = "take a sample of either side"
        raise FaultError("the partial transport did not finish", where="coverage", got=log["warning"], hint=hint)
    i, j = np.nonzero(plan)
    return i.astype(np.int64), j.astype(np.int64), plan[i, j]
