"""Duplicates: which rows are copies of which. A way of finding them is one file, one class and one line in ``DEDUP``."""

from __future__ import annotations

from composer.dedup.base import Dedup
from composer.dedup.copies import Copies, describe, find_copies
from composer.dedup.exact import ExactDedup
from composer.dedup.near import NearDedup
from composer.dedup.rows import Part
from composer.dedup.semantic import SemanticDedup

__all__ = ["DEDUP", "Copies", "Dedup", "Part", "describe", "find_copies"]

DEDUP: dict[str, type[Dedup]] = {
    "exact": ExactDedup,
    "near": NearDedup,
    "semantic": SemanticDedup,
}
