"""Evaluation texts in training rows: n-grams of words that stand in both, counted by evaluation set and source.

What a model is measured on must not be what it was trained on. :class:`Decontaminate` says what is looked for, :class:`Known`
holds the n-grams of one set, and :func:`find_contamination` goes through the rows.
"""

from __future__ import annotations

from composer.decontaminate.find import Contamination, find_contamination
from composer.decontaminate.known import Known, Said
from composer.decontaminate.spec import Decontaminate, EvaluationSet

__all__ = ["Contamination", "Decontaminate", "EvaluationSet", "Known", "Said", "find_contamination"]
