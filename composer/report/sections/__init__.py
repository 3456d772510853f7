"""The sections of the page in their order; one file each, ``CHAPTER`` is what it is."""

from __future__ import annotations

from composer.report.section import Chapter
from composer.report.sections import (
    cost,
    dropped,
    experts,
    forgotten,
    insinfo,
    instructions,
    knowledge,
    licences,
    masks,
    retention,
    schedule,
    similarity,
    training,
    weights,
)

CHAPTERS: tuple[Chapter, ...] = (
    knowledge.CHAPTER, weights.CHAPTER, schedule.CHAPTER, similarity.CHAPTER, instructions.CHAPTER, insinfo.CHAPTER,
    training.CHAPTER, experts.CHAPTER, masks.CHAPTER, retention.CHAPTER, forgotten.CHAPTER, dropped.CHAPTER, licences.CHAPTER,
    cost.CHAPTER,
)  # fmt: skip
