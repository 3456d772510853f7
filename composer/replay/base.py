"""The base of the replay policies: how much of each earlier domain comes back at a stage of a sequence.

A policy states how the earlier domains share the replay (its ``shares``) and which rows suit it (``natural_select``); that the
total is kept and no domain gives more than it has is seen to here, once.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from composer.apportion import apportion
from composer.errors import InputError
from composer.spec import Spec
from composer.types import ReplayContext, array, need

_WAY_OUT = {
    "similarity": "give the recipe a distance, or choose a policy that needs none",
    "risk": "give the recipe an embedder, or choose a policy that needs none",
    "forgetting": "it is measured between the stages of training: the recipe must train, one group after another",
}


class ReplayPolicy(Spec):
    """A rule that says how much of each earlier domain is replayed.

    ``per_task`` is the replay per earlier domain, in the schedule's unit; the shares of the single domains may differ.
    """

    name: str
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    natural_select: ClassVar[dict[str, Any]] = {"name": "uniform"}

    per_task: int = Field(default=200, ge=0)

    def amounts(self, context: ReplayContext) -> NDArray[np.int64]:
        """Return how much of each earlier domain is replayed.

        Returns
        -------
        (E,) int64 for the E earlier domains, with the sum ``E * per_task``; a domain gives at most what is available of it, and
        what it cannot give comes from the others as far as they have it.

        Raises
        ------
        SpecError
            Where the context lacks what the policy needs.
        """
        n_earlier = len(context.earlier)
        if not n_earlier or not self.per_task:
            return np.zeros(n_earlier, dtype=np.int64)
        for field in sorted(self.needs):
            need(context, field, who=f"replay {self.name}", hint=_WAY_OUT[field])
        return apportion(self.shares(context), n_earlier * self.per_task, capacity=context.available)

    def shares(self, context: ReplayContext) -> NDArray[np.float64]:
        """Return how the earlier domains share the replay; of any scale, all the same unless a member says otherwise."""
        return np.ones(len(context.earlier))

    def padding(self, context: ReplayContext) -> int:  # noqa: ARG002
        """Return how much more of the current domains is trained on instead of replay; nothing unless a member says so."""
        return 0


class RiskReplay(ReplayPolicy):
    """A policy that gives more to the domains that are more at risk; a member says by what ``field`` that is told.

    Earlier domain j gets ``(1 + strength r_j) / sum over i of (1 + strength r_i)`` of the total, r being its risk. Where all
    risks are small the shares are nearly equal, however unlike the risks: what is told of them is an estimate, and a domain
    whose risk is told to be low may be forgotten too. No domain gets more than ``1 + strength r_j`` times what another does.
    """

    field: ClassVar[str]

    strength: float = Field(default=2.0, ge=0, allow_inf_nan=False)

    def shares(self, context: ReplayContext) -> NDArray[np.float64]:
        """Return the shares, with the sum one.

        Raises
        ------
        InputError
            For a domain of unknown risk.
        """
        told = getattr(context, self.field)
        if missing := [domain for domain in context.earlier if domain not in told]:
            raise InputError("the risk of a domain is not known", where=f"replay {self.name}", got=", ".join(missing))
        weight = 1 + self.strength * np.maximum(array(told[domain] for domain in context.earlier), 0)
        return np.asarray(weight / weight.sum())
