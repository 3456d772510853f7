"""More of the domains that can still learn, all of them mattering."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from composer.laws.update import Vector, exp_update, learnable_potential, potential_update
from composer.train.reweight.base import Look, Move, Reweighting, given


class Potential(Reweighting):
    """Raise a domain's weight by its learnable potential: ``P_j' ~ P_j (1 + sigma gamma_j)``.

    ``gamma_j = max((l_j - ref_j) / l_j, 0)`` for the held-out loss l and the reference loss ref, which should be held out, too.
    The rule ``exp`` is that of the released code, ``P_j' ~ P_j exp(l_j - ref_j)``, without reference losses ``P_j exp(l_j)``.
    A domain whose loss is not a number has gamma zero, and no part in the rule ``exp``. The weights compound: what gained at
    one look starts from there at the next.

    Examples
    --------
    >>> look = Look(
    ...     step=50, domains=("a", "b", "c", "d"), weights=np.full(4, 0.25), loss=np.array([2.0, 1.5, 1.0, 0.8]),
    ...     previous=np.full(4, 2.0), reference=np.array([1.0, 1.2, 1.0, 1.0]), train_loss=np.full(4, 1.0), memory={},
    ... )
    >>> move = Potential().move(look)
    >>> move.state, move.told["potential"].round(6).tolist(), move.weights.round(6).tolist()
    ('updated', [0.5, 0.2, 0.0, 0.0], [0.319149, 0.255319, 0.212766, 0.212766])
    """

    name: Literal["potential"] = "potential"
    reference: ClassVar[str] = "VersaTune, arXiv:2411.11266, phase 2 (multi-ability fostering), and its released code"
    summary: ClassVar[str] = "more of the domains whose held-out loss is still above its reference"

    rule: Literal["potential", "exp"] = "potential"
    sigma: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    @property
    def needs(self) -> frozenset[str]:
        """Reference losses, which only the released rule does without."""
        return frozenset({"reference"} if self.rule == "potential" else ())

    def update(self, look: Look) -> Move:
        """Return the weights after one update."""
        if self.rule == "potential":
            gamma = learnable_potential(look.loss, given(look.reference))
            return Move(
                weights=potential_update(look.weights, gamma, sigma=self.sigma), told={"potential": gamma}, state="updated"
            )
        score = look.loss if look.reference is None else look.loss - look.reference
        return Move(weights=_released(look.weights, score), told={"score": score}, state="updated")


def _released(weights: Vector, score: Vector) -> Vector:
    """Return the weights by the released rule; only those of a known score have a part in it."""
    out = weights.copy()
    known = np.isfinite(score)
    if out[known].any():
        out[known] = out[known].sum() * exp_update(out[known], score[known])
    return out
