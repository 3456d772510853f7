"""Shares between those of the sizes and uniform ones."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from composer.laws.base import Law
from composer.types import MixContext, array


class Temperature(Law):
    """Flattened sizes: ``P_j`` in proportion to ``n_j^(1/T)``.

    T = 1 is proportional, T to infinity uniform over the domains that are not empty, T below one sharpens.

    Examples
    --------
    >>> Temperature(temperature=2).weights(MixContext(domains=("law", "code"), sizes=(10, 90))).round(12).tolist()
    [0.25, 0.75]
    """

    name: Literal["temperature"] = "temperature"
    reference: ClassVar[str] = "Arivazhagan et al. 2019, arXiv:1907.05019, temperature-based sampling"
    summary: ClassVar[str] = "sizes to the power 1/T: from proportional (T = 1) towards uniform"
    needs: ClassVar[frozenset[str]] = frozenset({"sizes"})

    temperature: float = Field(default=5.0, gt=0, allow_inf_nan=False)

    def mass(self, context: MixContext) -> NDArray[np.float64]:
        """Return ``(n_j / max n)^(1/T)``; the scale cancels, and the largest can then never overflow."""
        sizes = array(context.sizes or ())
        share = sizes / max(sizes.max(), 1.0)
        return np.where(sizes > 0, share ** (1 / self.temperature), 0.0)
