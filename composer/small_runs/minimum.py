"""The mixture that a law thinks best, how sure of it the law can be, and how far it lies from what was run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from composer.errors import InputError
from composer.small_runs.forms import Vector
from composer.small_runs.region import Region, Shares

LEVEL = 0.8  # of an interval; from four runs on there is one
MOST_STARTS = 12
SUM_ONE: Any = {"type": "eq", "fun": lambda w: w.sum() - 1.0}
PATIENCE: Any = {"ftol": 1e-10, "maxiter": 300}


def lowest(of: Callable[[Shares], Vector], region: Region, *, starts: Shares) -> Shares:
    """Return the weights of a region at which a function of them is least, with four digits.

    By sequential quadratic programming from those of the starts where it is least, since a law need not be convex.

    Parameters
    ----------
    of
        (m, D) shares to (m,) values.
    region
        Where to look.
    starts
        (n, D) where to begin, moved into the region.

    Examples
    --------
    >>> region = Region(domains=("law", "code"), floor=0.1, caps=(1, 0.6))
    >>> lowest(lambda shares: (shares[:, 1] - 0.3) ** 2, region, starts=np.eye(2)).tolist()
    [0.7, 0.3]
    >>> lowest(lambda shares: shares[:, 0], region, starts=np.eye(2)).tolist()
    [0.4, 0.6]
    """
    from scipy.optimize import minimize

    begun = np.array([region.within(start) for start in starts])
    values = of(begun)
    spread = float(np.ptp(values)) or 1.0  # the tolerance is one of what differs

    def scaled(w: Any) -> float:
        return float((of(w[None, :])[0] - values.min()) / spread)

    ends = [*begun]
    for start in begun[np.argsort(values, kind="stable")[:MOST_STARTS]]:
        found = minimize(scaled, start, method="SLSQP", bounds=region.bounds, constraints=SUM_ONE, options=PATIENCE)
        if np.isfinite(found.x).all():
            ends.append(region.within(np.maximum(found.x, 0.0)))
    return np.asarray(ends[int(np.argmin(of(np.array(ends))))], dtype=np.float64)


def interval(predicted: Vector, residuals: Vector, *, level: float = LEVEL) -> tuple[float, float] | None:
    """Return an interval for one more run, by what laws without one run each say of it and miss of that run (jackknife+).

    From the ``floor(a (n + 1))``-th smallest of ``p_i - |e_i|`` to the ``ceil((1 - a)(n + 1))``-th smallest of
    ``p_i + |e_i|`` with a = 1 - level; None where n is too small for the level. For a run of the same kind as the others it
    holds ``level`` of the time, and never less than ``1 - 2 a``. A mixture that was chosen for what the law says of it is no
    such run.

    Parameters
    ----------
    predicted
        (n,) what the law without run i says.
    residuals
        (n,) what it misses of run i.

    References
    ----------
    Barber, Candes, Ramdas and Tibshirani, Predictive Inference with the Jackknife+ (2021), section 1.

    Examples
    --------
    >>> interval(np.array([1.0, 1.0, 1.0, 1.0]), np.array([0.1, -0.2, 0.3, 0.4]))
    (0.6, 1.4)
    >>> interval(np.array([1.0, 1.0]), np.array([0.1, 0.2])) is None
    True
    """
    if predicted.shape != residuals.shape:
        raise InputError(
            "not a prediction for every run", where="interval", expected=f"shape {residuals.shape}", got=predicted.shape
        )
    n, missed = residuals.size, np.abs(residuals)
    rank = int(np.ceil(level * (n + 1) - 1e-9))
    if rank > n:
        return None
    low, high = np.sort(predicted - missed), np.sort(predicted + missed)
    return float(low[n - rank]), float(high[rank - 1])


def leverage(points: Shares, weights: Shares) -> float:
    """Return ``w' (P' P)^+ w``: how much a linear law at w leans on single runs; over the runs it sums to their rank.

    Examples
    --------
    >>> leverage(np.eye(2), np.array([0.5, 0.5])), leverage(np.eye(2), np.array([1.0, 0.0]))
    (0.5, 1.0)
    """
    return float(weights @ np.linalg.pinv(points.T @ points) @ weights)


def outside(points: Shares, weights: Shares) -> float:
    """Return how far weights lie from the convex hull of points: the least total variation to a mean of them, 0 inside.

    A linear programme over the weights of that mean.

    Examples
    --------
    >>> runs = np.array([[0.8, 0.2, 0.0], [0.2, 0.8, 0.0]])
    >>> [round(outside(runs, np.array(w)), 9) + 0.0 for w in ([0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.4, 0.3, 0.3])]
    [0.0, 0.2, 0.3]
    """
    from scipy.optimize import linprog

    n, d = points.shape
    cost = np.r_[np.zeros(n), np.full(2 * d, 0.5)]
    equal = np.vstack([np.hstack([points.T, np.eye(d), -np.eye(d)]), np.r_[np.ones(n), np.zeros(2 * d)]])
    found = linprog(cost, A_eq=equal, b_eq=np.r_[weights, 1.0])
    if found.fun is None:
        raise InputError("no distance to the runs", where="outside", got=found.message)
    return max(float(found.fun), 0.0)
