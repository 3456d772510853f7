"""The mixture that the base model already has."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from composer.laws.base import Law, known_shares, lift
from composer.types import MixContext


class Knowledge(Law):
    """Train on what the model knows: ``P_j = floor + (1 - k floor) p_j`` for the known shares p.

    Examples
    --------
    >>> from composer.types import KnowledgeDistribution
    >>> domains, zero, one = ("law", "code"), (0.0, 0.0), (1.0, 1.0)
    >>> known = KnowledgeDistribution(domains=domains, p=(0.25, 0.75), stderr=zero, low=zero, high=one, n=8)
    >>> Knowledge(floor=0.25).weights(MixContext(domains=domains, knowledge=known)).tolist()
    [0.375, 0.625]
    """

    name: Literal["knowledge"] = "knowledge"
    reference: ClassVar[str] = "VersaTune, arXiv:2411.11266, phase 1 (knowledge-consistent initial mixture)"
    summary: ClassVar[str] = "the distribution of what the base model already knows, with a floor"
    needs: ClassVar[frozenset[str]] = frozenset({"knowledge"})

    floor: float = Field(default=0.0, ge=0, le=1)

    def mass(self, context: MixContext) -> NDArray[np.float64]:
        """Return the known shares above the floor."""
        return lift(known_shares(context, who=f"law {self.name}"), floor=self.floor)
