"""Laws that move domain weights while training goes on. One is one file, one class and one line in ``REWEIGHTING``."""

from __future__ import annotations

from composer.train.reweight.bandit import Bandit
from composer.train.reweight.base import Look, Move, Reweighting
from composer.train.reweight.excess import Excess
from composer.train.reweight.expansion import Expansion
from composer.train.reweight.levels import Levels
from composer.train.reweight.potential import Potential
from composer.train.reweight.progress import Progress

__all__ = ["REWEIGHTING", "Look", "Move", "Reweighting"]

REWEIGHTING: dict[str, type[Reweighting]] = {
    "potential": Potential,
    "expansion": Expansion,
    "bandit": Bandit,
    "excess": Excess,
    "progress": Progress,
    "levels": Levels,
}
