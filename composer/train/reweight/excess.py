"""More of the domains whose loss exceeds that of a reference model, by exponentiated gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from composer.laws.update import exp_update
from composer.train.reweight.base import Look, Move, Reweighting, given


class Excess(Reweighting):
    """Follow the clipped excess loss: ``P_j' = (1 - c) P_j exp(rate x_j) / sum over i of P_i exp(rate x_i) + c / k``.

    ``x_j = max(l_j - ref_j, 0)`` nats per token, zero where it is undefined, and c is the ``smoothing``. DoReMi clips token by
    token on training batches and trains its final model on the average of all weights; here the held-out mean of a domain is
    clipped, and the weights are in force as they come.

    Examples
    --------
    >>> look = Look(
    ...     step=50, domains=("a", "b"), weights=np.array([0.5, 0.5]), loss=np.array([1.0 + np.log(3), 0.5]),
    ...     previous=np.ones(2), reference=np.ones(2), train_loss=np.ones(2), memory={},
    ... )
    >>> Excess(smoothing=0).move(look).weights.round(6).tolist()
    [0.75, 0.25]
    >>> Excess(smoothing=0.5).move(look).weights.round(6).tolist()
    [0.625, 0.375]
    """

    name: Literal["excess"] = "excess"
    reference: ClassVar[str] = "DoReMi, Xie et al., arXiv:2305.10429, algorithm 1"
    summary: ClassVar[str] = "more of the domains whose loss exceeds its reference, smoothed towards uniform"

    rate: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    smoothing: float = Field(default=1e-3, ge=0, le=1)

    @property
    def needs(self) -> frozenset[str]:
        """Reference losses."""
        return frozenset({"reference"})

    def update(self, look: Look) -> Move:
        """Return the weights after one step of the gradient."""
        over = look.loss - given(look.reference)
        excess = np.where(np.isfinite(over), np.maximum(over, 0.0), 0.0)
        weights = (1 - self.smoothing) * exp_update(look.weights, self.rate * excess) + self.smoothing / len(excess)
        return Move(weights=weights, told={"excess": excess}, state="updated")
