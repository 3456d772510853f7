"""The weights that a mixture may have: a simplex with a floor, and a cap for every domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.apportion import apportion
from composer.errors import InputError

Shares = NDArray[np.float64]

UNITS = 10_000  # a weight is a whole number of these parts: it has four digits, and the sum is one to the digit
_TRACE = 1e-9  # so that a domain of no weight can take what others have no room for


@dataclass(frozen=True)
class Region:
    """The weights w of ``domains`` with ``sum w = 1`` and ``min(floor, cap_j) <= w_j <= cap_j``, in ten-thousandths.

    Raises
    ------
    InputError
        Where no mixture can be in it: caps of a sum below one, or floors of a sum above it.
    """

    domains: tuple[str, ...]
    floor: float
    caps: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.high.sum() < UNITS:
            got = ", ".join(f"{domain} {cap:.4f}" for domain, cap in zip(self.domains, self.caps, strict=True))
            hint = "lower budget.amount, or let rows come more often: budget.max_repeats"
            raise InputError("the data is too little for the budget", where="budget.amount", got=f"at most {got}", hint=hint)
        if self.low.sum() > UNITS:
            raise InputError("floors that the domains cannot all have", where="law.floor", got=self.floor)

    @property
    def low(self) -> NDArray[np.int64]:
        """(D,) the least weights, in ten-thousandths."""
        return np.minimum(int(np.ceil(self.floor * UNITS - _TRACE)), self.high)

    @property
    def high(self) -> NDArray[np.int64]:
        """(D,) the largest weights, in ten-thousandths."""
        return np.floor(np.asarray(self.caps) * UNITS + _TRACE).astype(np.int64)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """The least and the largest weight of every domain."""
        return [(a / UNITS, b / UNITS) for a, b in zip(self.low.tolist(), self.high.tolist(), strict=True)]

    def within(self, weights: ArrayLike) -> Shares:
        """Return the weights, scaled and clipped so that they lie in the region: ``clip(lambda w, low, high)`` of sum one.

        Parameters
        ----------
        weights
            (D,) not negative, of any scale.

        Returns
        -------
        (D,) float64 with four digits.

        Examples
        --------
        >>> Region(domains=("law", "code", "general"), floor=0.1, caps=(1, 1, 0.3)).within([0, 1, 1]).tolist()
        [0.1, 0.6, 0.3]
        """
        w = np.asarray(weights, dtype=np.float64)
        w = w / w.sum() + _TRACE
        whole = apportion(w, UNITS, capacity=self.high, minimum=int(self.low.max()))
        return np.asarray(whole / UNITS, dtype=np.float64)
