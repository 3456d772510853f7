"""The mean difference of two arms over pairs of runs, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from composer.errors import InputError
from composer.spec import Spec

LEVEL = 0.95
_ROUNDING = 1e-12


class Paired(Spec):
    """A mean paired difference, arm minus control; see :func:`paired`.

    ``sd`` is the standard deviation of the differences. ``low`` and ``high`` bound the mean at 95 % for this comparison alone,
    ``low_corrected`` and ``high_corrected`` for all comparisons together. ``p`` is None where the differences do not spread.
    """

    difference: float
    sd: float
    n: int
    low: float
    high: float
    low_corrected: float
    high_corrected: float
    p: float | None
    larger_in: int

    def __str__(self) -> str:
        """Return the difference with its interval.

        Examples
        --------
        >>> print(paired([0.5, 0.6, 0.8], [0.4, 0.4, 0.5]))
        +0.200 (95 % interval -0.048 to +0.448)
        """
        return f"{self.difference:+.3f} ({100 * LEVEL:.0f} % interval {self.low:+.3f} to {self.high:+.3f})"


def paired(mine: ArrayLike, control: ArrayLike, *, n_comparisons: int = 1) -> Paired:
    """Return the mean difference of paired runs with the interval of Student's t.

    ``mean +- t_{1 - a/2, n - 1} sd / sqrt(n)`` with a = 0.05, and corrected a = 0.05 over the number of comparisons
    (Bonferroni). It takes the differences as normally distributed, which so few cannot show; a test that does not, by flipping
    signs, cannot fall below a p of ``2^(1 - n)``.

    Parameters
    ----------
    mine, control
        (n,) the measure of the arm and of the control in the same n runs, in the same order.
    n_comparisons
        How many comparisons are made at once.

    Raises
    ------
    InputError
        For fewer than two pairs, for unequal numbers of runs and for values that are not finite.

    References
    ----------
    Student, The Probable Error of a Mean (1908), section 9.

    Examples
    --------
    >>> found = paired([3, 5, 7], [1, 4, 4], n_comparisons=2)
    >>> found.difference, found.sd, round(found.low, 3), round(found.low_corrected, 3), round(found.p, 3)
    (2.0, 1.0, -0.484, -1.583, 0.074)
    """
    from scipy.special import stdtr, stdtrit

    x, y = (np.asarray(side, dtype=np.float64) for side in (mine, control))
    if x.shape != y.shape or x.ndim != 1 or x.size < 2:
        raise InputError("not pairs of runs", where="pairs", expected="two or more, as many on either side", got=x.shape)
    if not np.isfinite([x, y]).all():
        raise InputError("a run has no finite measure", where="pairs", got=[*x.tolist(), *y.tolist()])
    gap, n = x - y, x.size
    mean, sd = float(gap.mean()), float(gap.std(ddof=1))
    if sd <= _ROUNDING * float(np.abs([x, y]).max()):
        sd = 0.0
    error = sd / np.sqrt(n)
    half, wide = (float(error * stdtrit(n - 1, 1 - (1 - LEVEL) / 2 / m)) for m in (1, n_comparisons))
    return Paired(
        difference=mean,
        sd=sd,
        n=n,
        low=mean - half,
        high=mean + half,
        low_corrected=mean - wide,
        high_corrected=mean + wide,
        p=float(2 * stdtr(n - 1, -abs(mean) / error)) if sd else None,
        larger_in=int((gap > 0).sum()),
    )


def finite(values: Sequence[float | None]) -> bool:
    """Return whether all values are known and finite.

    Examples
    --------
    >>> finite([0.5, 1]), finite([0.5, None])
    (True, False)
    """
    return all(value is not None and np.isfinite(value) for value in values)
