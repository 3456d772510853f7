"""How losses move weights while training goes on: the formulas of VersaTune's second phase, as pure functions of vectors.

VersaTune's published update is known to us only in its quantities (gamma, phi); the rules that use them are stated here as they
are computed. The released code uses another rule, which is ``exp_update``. Every rule takes weights of any scale and returns
shares, and none lets an undefined quotient of losses move a weight.

References
----------
VersaTune, arXiv:2411.11266, sections on multi-ability fostering and on domain expansion; the authors' code for ``exp_update``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.errors import InputError
from composer.types import TOLERANCE

Vector = NDArray[np.float64]


def learnable_potential(loss: ArrayLike, reference: ArrayLike) -> Vector:
    """Return how much of its loss a domain can still lose: ``gamma_j = max((l_j - ref_j) / l_j, 0)``.

    Parameters
    ----------
    loss, reference
        (k,) nats per token; the reference is held out, since a memorised train loss would make every gamma one.

    Returns
    -------
    (k,) float64 in [0, 1]; zero where the quotient is undefined (a loss of zero, or one that is not a number).

    Examples
    --------
    >>> learnable_potential([2.0, 1.5, 1.0, 0.8], [1.0, 1.2, 1.0, 1.0]).round(12).tolist()
    [0.5, 0.2, 0.0, 0.0]
    """
    now, best = _pair(loss, reference)
    return _gain(now - best, over=now)


def forgetting_degree(loss: ArrayLike, previous: ArrayLike) -> Vector:
    """Return how much a domain's loss has risen since the last look: ``phi_j = max((l_j - prev_j) / prev_j, 0)``.

    Parameters
    ----------
    loss, previous
        (k,) nats per token.

    Returns
    -------
    (k,) float64, not negative; zero where the quotient is undefined.

    Examples
    --------
    >>> forgetting_degree([2.2, 0.9], [2.0, 1.0]).round(12).tolist()
    [0.1, 0.0]
    """
    now, before = _pair(loss, previous)
    return _gain(now - before, over=before)


def potential_update(weights: ArrayLike, gamma: ArrayLike, *, sigma: float) -> Vector:
    """Return ``P'_j = P_j (1 + sigma gamma_j)``, normalised: domains that can still learn gain weight.

    Examples
    --------
    >>> potential_update([1, 1, 1, 1], [0.5, 0.2, 0.0, 0.0], sigma=1.0).round(6).tolist()
    [0.319149, 0.255319, 0.212766, 0.212766]
    """
    p, g = _shares(weights), _finite(gamma, "gamma")
    if not (0 <= sigma < np.inf and (g >= 0).all()):
        raise InputError("a potential cannot lower a weight", where="potential_update", expected="sigma, gamma >= 0", got=sigma)
    return _shares(p * (1 + sigma * g))


def expansion_step(weights: ArrayLike, *, target: int, delta: float, floor: float = 0.0) -> Vector:
    """Return the weights with the target's raised by ``delta`` and the others lowered in proportion.

    With ``P_e' = min(P_e + delta, 1 - (k - 1) floor)`` the others keep the ratios of what they have above the floor:
    ``P_j' = floor + (1 - P_e' - (k - 1) floor) (P_j - floor) / sum_i (P_i - floor)``, which without a floor is
    ``P_j (1 - P_e') / (1 - P_e)``. Others that have nothing above the floor share evenly.

    Parameters
    ----------
    weights
        (k,) of any scale.
    target
        The index of the domain that grows.
    delta
        How much share it gains.
    floor
        What no domain falls below, 0 to 1/k.

    Examples
    --------
    >>> expansion_step([0.4, 0.3, 0.2, 0.1], target=0, delta=0.1).round(6).tolist()
    [0.5, 0.25, 0.166667, 0.083333]
    """
    p = _shares(weights)
    k = p.size
    if not (0 <= target < k and 0 <= delta < np.inf and 0 <= floor * k <= 1 + TOLERANCE):
        expected = f"target 0 to {k - 1}, delta >= 0, floor 0 to 1/{k}"
        raise InputError("no such expansion", where="expansion_step", expected=expected, got=(target, delta, floor))
    others = np.arange(k) != target
    above = np.maximum(p - floor, 0.0)[others]
    spread = above / above.sum() if above.any() else np.full(k - 1, 1 / max(k - 1, 1))
    raised = max(min(p[target] + delta, 1 - (k - 1) * floor), floor)
    out = np.empty(k)
    out[target] = raised
    out[others] = floor + max(1 - raised - (k - 1) * floor, 0.0) * spread
    return out


def exp_update(weights: ArrayLike, score: ArrayLike) -> Vector:
    """Return ``P'_j = P_j exp(score_j)``, normalised: the rule of the released code, with the loss as the score.

    Adding a constant to every score changes nothing.

    Examples
    --------
    >>> exp_update([0.5, 0.3, 0.2], [0.0, np.log(2), 0.0]).round(6).tolist()
    [0.384615, 0.461538, 0.153846]
    """
    p, s = _shares(weights), _finite(score, "score")
    return _shares(p * np.exp(np.minimum(s - s[p > 0].max(), 0.0)))


def _gain(difference: Vector, *, over: Vector) -> Vector:
    with np.errstate(all="ignore"):
        quotient = difference / over
    return np.where((over > 0) & np.isfinite(quotient), np.maximum(quotient, 0.0), 0.0)


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Vector, Vector]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise InputError("losses of different domains", where="losses", expected=f"shape {x.shape}", got=y.shape)
    return x, y


def _finite(values: ArrayLike, what: str) -> Vector:
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        raise InputError(f"{what} is not finite", where=what, expected="finite numbers", got=x.tolist())
    return x


def _shares(weights: ArrayLike) -> Vector:
    p = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(p).all() and (p >= 0).all() and p.any()):
        expected = "finite numbers, none negative, one above zero"
        raise InputError("weights that are no shares", where="weights", expected=expected, got=p.tolist())
    return np.asarray(p / p.sum(), dtype=np.float64)
