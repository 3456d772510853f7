"""A bandit whose arms are the domains, and whose reward is the loss of what was trained on."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from composer.train.reweight.base import Look, Move, Reweighting
from composer.types import TOLERANCE


class Bandit(Reweighting):
    """EXP3 on the training losses: ``P_j = (1 - K e_t) exp(e_(t-1) R_j) / sum over i of exp(e_(t-1) R_i) + e_t``.

    ``R_j`` is the moving average of rewards, ``R_j' = alpha R_j + (1 - alpha) l_j / P_j``, where l is the loss of what was
    trained on since the last look and P the weight in force; a domain that was not trained on, or has no weight, keeps its R.
    The exploration is ``e_t = min(1/K, sqrt(ln K / (K t)))`` at the t-th update, and ``e_0 = 1/K``: every domain gets at least
    e_t. No held-out loss is read. The released code sums a tenth of the rewards instead of averaging them.

    Examples
    --------
    >>> look = Look(
    ...     step=50, domains=("a", "b"), weights=np.array([0.5, 0.5]), loss=np.ones(2), previous=np.ones(2), reference=None,
    ...     train_loss=np.array([2.0, 1.0]), memory={"updates": 3, "reward": [2.0, 2.0]},
    ... )
    >>> move = Bandit(alpha=0.5).move(look)
    >>> move.told["reward"].tolist(), round(float(move.told["exploration"][0]), 6), move.weights.round(6).tolist()
    ([3.0, 2.0], 0.294353, [0.534616, 0.465384])
    """

    name: Literal["bandit"] = "bandit"
    reference: ClassVar[str] = "Online Data Mixing, Albalak et al., arXiv:2312.02406"
    summary: ClassVar[str] = "EXP3: domains of high training loss are rewarded, all are explored"

    alpha: float = Field(default=0.9, ge=0, lt=1)

    def update(self, look: Look) -> Move:
        """Return the weights after one reward."""
        k, t = len(look.domains), look.memory.get("updates", 0) + 1
        reward = np.array(look.memory.get("reward", [0.0] * k), dtype=np.float64)
        seen = np.isfinite(look.train_loss) & (look.weights > TOLERANCE)
        reward[seen] = self.alpha * reward[seen] + (1 - self.alpha) * look.train_loss[seen] / look.weights[seen]
        now, before = _exploration(k, t), _exploration(k, t - 1)
        gain = np.exp(before * (reward - reward.max()))
        return Move(
            weights=(1 - k * now) * gain / gain.sum() + now,
            told={"reward": reward, "exploration": np.full(k, now)},
            state="updated",
            memory={"updates": t, "reward": reward.tolist()},
        )


def _exploration(k: int, t: int) -> float:
    return min(1 / k, math.sqrt(math.log(k) / (k * t))) if t else 1 / k
