"""More and more of one domain, as long as the others do not forget."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from composer.errors import SpecError, nearest
from composer.laws.update import expansion_step, forgetting_degree, learnable_potential, potential_update
from composer.train.reweight.base import Look, Move, Reweighting, given
from composer.types import TOLERANCE


class Expansion(Reweighting):
    """Raise the target's share by ``delta`` at every look where ``mean over j != e of phi_j < eps gamma_e``.

    ``phi_j = max((l_j - prev_j) / prev_j, 0)`` is how much domain j has forgotten since the last look, and gamma_e the target's
    learnable potential (see ``potential``). The others keep the ratios of what they have above the floor. Where the target
    cannot go higher, for the cap or for the others' floors, the weights rest (``capped``). Where the others forget too much, or
    the target has nothing left to learn, it is not raised, and all weights follow their potentials with ``sigma`` (``held``).

    Every look is judged by itself: a target that was held is raised again once forgetting is below its threshold. That the
    rising ends for good is not said in the paper as far as it is known to us, and one noisy look would end it.

    Examples
    --------
    >>> look = Look(
    ...     step=50, domains=("a", "b", "c", "d"), weights=np.array([0.4, 0.3, 0.2, 0.1]), loss=np.array([2.0, 1.0, 1.0, 1.0]),
    ...     previous=np.array([2.2, 1.0, 0.9, 1.0]), reference=np.ones(4), train_loss=np.ones(4), memory={},
    ... )
    >>> move = Expansion(target="a", delta=0.1).move(look)
    >>> move.state, move.weights.round(6).tolist()
    ('raised', [0.5, 0.249123, 0.166667, 0.084211])
    >>> Expansion(target="a", eps=0.05).move(look).state
    'held'
    """

    name: Literal["expansion"] = "expansion"
    reference: ClassVar[str] = "VersaTune, arXiv:2411.11266, phase 2 (flexible domain expansion); the rule is our reading"
    summary: ClassVar[str] = "one target domain grows step by step while the others forget little"

    target: str
    delta: float = Field(default=0.05, ge=0, le=1)
    eps: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    sigma: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    @property
    def needs(self) -> frozenset[str]:
        """Reference losses."""
        return frozenset({"reference"})

    def check(self, domains: tuple[str, ...]) -> None:
        """Refuse domains that lack the target, too."""
        super().check(domains)
        if self.target not in domains:
            raise SpecError("no such domain", where="target", got=self.target, hint=nearest(self.target, domains))

    def update(self, look: Look) -> Move:
        """Return the weights with the target raised, or held."""
        e, k = look.domains.index(self.target), len(look.domains)
        gamma = learnable_potential(look.loss, given(look.reference))
        phi = forgetting_degree(look.loss, given(look.previous))
        mean = np.delete(phi, e).mean() if k > 1 else 0.0
        told = {"potential": gamma, "forgetting": phi}
        if not mean < self.eps * gamma[e]:
            return Move(weights=potential_update(look.weights, gamma, sigma=self.sigma), told=told, state="held")
        room = min(self.cap, 1 - (k - 1) * self.floor) - look.weights[e]
        if room <= TOLERANCE:
            return Move(weights=look.weights, told=told, state="capped")
        weights = expansion_step(look.weights, target=e, delta=min(self.delta, room), floor=self.floor)
        return Move(weights=weights, told=told, state="raised")
