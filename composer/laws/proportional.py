"""Shares as large as the domains are."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from composer.laws.base import Law
from composer.types import MixContext, array


class Proportional(Law):
    """Every domain weighs as much as it can supply: ``P_j = n_j / sum_i n_i``, the mixture that plain concatenation gives.

    Examples
    --------
    >>> Proportional().weights(MixContext(domains=("law", "code"), sizes=(10, 30))).tolist()
    [0.25, 0.75]
    """

    name: Literal["proportional"] = "proportional"
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "the share that each domain has in the pool"
    needs: ClassVar[frozenset[str]] = frozenset({"sizes"})

    def mass(self, context: MixContext) -> NDArray[np.float64]:
        """Return the sizes."""
        return array(context.sizes or ())
