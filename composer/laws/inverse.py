"""More of what the model knows least."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from composer.laws.base import Law, known_shares
from composer.types import MixContext


class Inverse(Law):
    """Every domain weighs as much as the model lacks of it: ``P_j = (1 - p_j) / (k - 1)`` for the known shares p.

    Examples
    --------
    >>> from composer.types import KnowledgeDistribution
    >>> p, zero, one = (0.5, 0.25, 0.25), (0.0,) * 3, (1.0,) * 3
    >>> domains = ("law", "code", "general")
    >>> known = KnowledgeDistribution(domains=domains, p=p, stderr=zero, low=zero, high=one, n=8)
    >>> Inverse().weights(MixContext(domains=domains, knowledge=known)).tolist()
    [0.25, 0.375, 0.375]
    """

    name: Literal["inverse"] = "inverse"
    reference: ClassVar[str] = "VersaTune, arXiv:2411.11266, inverse baseline"
    summary: ClassVar[str] = "more of what the base model knows least"
    needs: ClassVar[frozenset[str]] = frozenset({"knowledge"})

    def mass(self, context: MixContext) -> NDArray[np.float64]:
        """Return ``1 - p``; a single domain has nothing to be weighed against and gets all."""
        p = known_shares(context, who=f"law {self.name}")
        return 1 - p if p.size > 1 else np.ones(1)
