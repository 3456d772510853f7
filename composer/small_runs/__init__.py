"""Small runs: which mixtures to train on briefly, what law their losses follow, and the mixture that this law thinks best.

Weights are points of a simplex, cut by a floor and by what the data can give (:class:`Region`). Runs are laid out in it
(:func:`lay_out`), a law is fitted to what they lost (:data:`FORMS`) and held against the predictor that says their mean
(:func:`validate`); only a law that does better has a minimum worth looking for (:func:`lowest`).
"""

from __future__ import annotations

from composer.small_runs.design import DESIGNS, lay_out, log_determinant
from composer.small_runs.forms import FORMS, Fitted
from composer.small_runs.minimum import interval, leverage, lowest, outside
from composer.small_runs.region import Region
from composer.small_runs.validation import Validation, validate

__all__ = [
    "DESIGNS", "FORMS", "Fitted", "Region", "Validation", "interval", "lay_out", "leverage", "log_determinant", "lowest",
    "outside", "validate",
]  # fmt: skip
