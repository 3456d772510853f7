"""The base of the laws, and what several of them share.

A law states how much each domain should weigh before any normalisation (its ``mass``); that shares sum to one, that a law gets
what it needs and that some domain weighs anything is seen to here, once.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.errors import SpecError
from composer.spec import Spec
from composer.types import TOLERANCE, KnowledgeDistribution, MixContext, array, need

_WAY_OUT = {
    "sizes": "ingest the sources first, then every domain's size is known",
    "knowledge": "give the recipe a probe, or choose a law that needs no knowledge",
}


class Law(Spec):
    """A rule that gives every domain its share of the training data, in the mixture's unit.

    A member gives ``mass``; ``needs`` names the fields of the context that it reads beside the domains.
    """

    name: str
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()

    def weights(self, context: MixContext) -> NDArray[np.float64]:
        """Return the shares of the context's domains.

        Returns
        -------
        (D,) float64, not negative, with sum one; a domain's share does not depend on the order of the domains.

        Raises
        ------
        SpecError
            Where the context lacks what the law needs, or no domain would get any weight.
        """
        who = f"law {self.name}"
        for field in sorted(self.needs):
            need(context, field, who=who, hint=_WAY_OUT[field])
        mass = self.mass(context)
        total = mass.sum()
        if not 0 < total < np.inf:
            raise SpecError("no domain gets any weight", where=who, got=dict(zip(context.domains, mass.tolist(), strict=True)))
        return np.asarray(mass / total, dtype=np.float64)

    def mass(self, context: MixContext) -> NDArray[np.float64]:
        """Return how much each domain should weigh; not negative, of any scale."""
        raise NotImplementedError


def known_shares(context: MixContext, *, who: str) -> NDArray[np.float64]:
    """Return the knowledge shares in the order of the context's domains, normalised over them.

    Raises
    ------
    SpecError
        Where the knowledge says nothing of a domain, or is zero on all of them.
    """
    knowledge: KnowledgeDistribution = need(context, "knowledge", who=who, hint=_WAY_OUT["knowledge"])
    share = dict(zip(knowledge.domains, knowledge.p, strict=True))
    if missing := [domain for domain in context.domains if domain not in share]:
        hint = "probe the model with the domains of this recipe"
        known = ", ".join(knowledge.domains)
        raise SpecError("the knowledge lacks a domain", where=who, expected=f"among {known}", got=", ".join(missing), hint=hint)
    p = array(share[domain] for domain in context.domains)
    if not p.any():
        raise SpecError("the knowledge is zero on every domain", where=who, got=", ".join(context.domains))
    return np.asarray(p / p.sum(), dtype=np.float64)


def lift(shares: ArrayLike, *, floor: float) -> NDArray[np.float64]:
    """Return ``p'_j = floor + (1 - k floor) p_j``: on the simplex if p is, with no share below the floor.

    Raises
    ------
    SpecError
        For a floor outside 0 to 1/k.

    Examples
    --------
    >>> lift([0.75, 0.25, 0.0], floor=0.125).tolist()
    [0.59375, 0.28125, 0.125]
    """
    p = np.asarray(shares, dtype=np.float64)
    if not 0 <= p.size * floor <= 1 + TOLERANCE:
        raise SpecError("a floor that the domains cannot all have", where="floor", expected=f"0 to 1/{p.size}", got=floor)
    return np.asarray(floor + max(1 - p.size * floor, 0.0) * p, dtype=np.float64)
