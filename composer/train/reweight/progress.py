"""More of the domains that training makes better, for each share that it costs."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from composer.train.reweight.base import Look, Move, Reweighting, given

LEAST = 1e-12  # share below which progress is not multiplied further


class Progress(Reweighting):
    """Follow the progress on held-out rows: ``P_j' ~ P_j (1 + sigma d_j / max over i of |d_i|)``.

    ``d_j' = alpha d_j + (1 - alpha) (prev_j - l_j) / P_j`` is by how many nats per token the held-out loss fell since the last
    look, for each unit of share that the domain had. ``alpha`` smooths it over the looks (zero: the last one alone), and
    ``sigma`` is how far the domain that tells most moves at a look. A domain whose held-out loss rises loses weight, where
    ``potential`` raises it: that law compares with a reference, and a domain that is trained too much lies above its own as one
    does that is trained too little. A loss that is not a number counts as no progress.

    Examples
    --------
    >>> look = Look(
    ...     step=50, domains=("a", "b", "c"), weights=np.array([0.5, 0.25, 0.25]), loss=np.array([1.0, 1.0, 1.1]),
    ...     previous=np.array([1.2, 1.0, 1.0]), reference=None, train_loss=np.ones(3), memory={},
    ... )
    >>> move = Progress(sigma=0.5).move(look)
    >>> move.told["progress"].round(6).tolist(), move.weights.round(6).tolist()
    ([0.4, 0.0, -0.4], [0.666667, 0.222222, 0.111111])
    """

    name: Literal["progress"] = "progress"
    reference: ClassVar[str] = "ours; learning progress as in Graves et al., arXiv:1704.03003, section 3"
    summary: ClassVar[str] = "more of the domains whose held-out loss falls, for each share that it takes"

    sigma: float = Field(default=0.5, ge=0, lt=1)
    alpha: float = Field(default=0.5, ge=0, lt=1)
    floor: float = Field(default=0.02, ge=0, le=1)

    def update(self, look: Look) -> Move:
        """Return the weights after one update."""
        fell = given(look.previous) - look.loss
        gain = np.where(np.isfinite(fell) & (look.weights > 0), fell, 0.0) / np.maximum(look.weights, LEAST)
        before = look.memory.get("progress")
        smooth = gain if before is None else self.alpha * np.array(before) + (1 - self.alpha) * gain
        most = np.abs(smooth).max()
        rho = smooth / most if most > 0 else np.zeros_like(smooth)
        return Move(
            weights=look.weights * (1 + self.sigma * rho), told={"progress": smooth}, state="updated",
            memory={"progress": smooth.tolist()},
        )  # fmt: skip
