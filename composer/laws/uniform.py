"""The same share for every domain."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from composer.laws.base import Law
from composer.types import MixContext


class Uniform(Law):
    """Every domain weighs the same: ``P_j = 1/k``.

    Examples
    --------
    >>> Uniform().weights(MixContext(domains=("law", "code"))).tolist()
    [0.5, 0.5]
    """

    name: Literal["uniform"] = "uniform"
    reference: ClassVar[str] = "VersaTune, arXiv:2411.11266, uniform baseline"
    summary: ClassVar[str] = "every domain the same share"

    def mass(self, context: MixContext) -> NDArray[np.float64]:
        """Return ones."""
        return np.ones(len(context.domains))
