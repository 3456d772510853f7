"""Trials: what paired runs of several arms say of the differences between them, and what they cannot say.

Two arms are compared over the same seeds. A seed moves both of them alike (the same held-out rows, the same base), so the
differences within the seeds spread less than the arms themselves do.
"""

from __future__ import annotations

from composer.trial.compare import Comparison, compare
from composer.trial.correction import holm
from composer.trial.paired import Paired, paired
from composer.trial.power import detectable, pairs_needed

__all__ = ["Comparison", "Paired", "compare", "detectable", "holm", "paired", "pairs_needed"]
