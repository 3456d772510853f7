"""What a number of pairs can show: the smallest difference that they would find, and how many a difference takes."""

from __future__ import annotations

from functools import cache

import numpy as np

from composer.errors import InputError

POWER = 0.8
MOST = 10_000  # pairs; what takes more is told to be out of reach
NODES = 256  # of the quadrature; against the library's noncentral t the power is right to three digits or more


def detectable(sd: float, n: int, *, alpha: float = 0.05, power: float = POWER) -> float:
    """Return the smallest true difference that n pairs find with the given power.

    The d at which the two-sided paired t test of level alpha rejects with probability ``power``, by the noncentral t
    distribution with n - 1 degrees of freedom and noncentrality ``d sqrt(n) / sd``. ``sd`` is taken at face value, though it
    is known from few pairs: from 3 of them the true one may well be half as large, or several times.

    Raises
    ------
    InputError
        For fewer than two pairs, or a level or power outside (0, 1).

    References
    ----------
    Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), section 2.3.

    Examples
    --------
    >>> round(detectable(1.0, 34), 2)
    0.5
    """
    return sd * _effect(n, alpha, power)


def pairs_needed(sd: float, difference: float, *, alpha: float = 0.05, power: float = POWER) -> int | None:
    """Return how many pairs find a true difference with the given power; None where more than 10,000 would be needed.

    The smallest n for which :func:`detectable` is at most ``difference``.

    Raises
    ------
    InputError
        For a difference that is not above 0.

    Examples
    --------
    >>> pairs_needed(0.072, 0.05), pairs_needed(1.0, 0.5), pairs_needed(1.0, 1e-9)
    (19, 34, None)
    """
    if not difference > 0:
        raise InputError("no difference to find", where="difference", expected="above 0", got=difference)
    if detectable(sd, MOST, alpha=alpha, power=power) > difference:
        return None
    low, high = 1, 2  # too few, enough
    while detectable(sd, high, alpha=alpha, power=power) > difference:
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if detectable(sd, middle, alpha=alpha, power=power) > difference else (low, middle)
    return high


@cache
def _effect(n: int, alpha: float, power: float) -> float:
    """Return the detectable difference in units of the standard deviation."""
    from scipy.optimize import brentq
    from scipy.special import gammaincinv, ndtr, stdtrit

    if n < 2 or not (0 < alpha < 1 and 0 < power < 1):
        expected = "two pairs or more, and a level and a power between 0 and 1"
        raise InputError("no power to tell", where="power", expected=expected, got=f"{n}, {alpha:g}, {power:g}")
    # The library's noncentral t is not a number far out: here its tails are a mean over what the measured spread may be.
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    spread = np.sqrt(2 * gammaincinv((n - 1) / 2, (nodes + 1) / 2) / (n - 1))
    bounds = stdtrit(n - 1, 1 - alpha / 2) * spread

    def lacking(shift: float) -> float:
        return power - float(weights @ (ndtr(shift - bounds) + ndtr(-shift - bounds))) / 2

    highest = 1.0
    while lacking(highest) > 0:
        highest *= 2
    return float(brentq(lacking, 0.0, highest)) / float(np.sqrt(n))
