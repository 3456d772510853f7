"""Similarity: how far domains lie from each other. A distance is one file, one class and one line in ``DISTANCES``."""

from __future__ import annotations

from composer.similarity.base import Cloud, Distance
from composer.similarity.subsampled import Subsampled
from composer.similarity.wasserstein import Wasserstein

__all__ = ["DISTANCES", "Cloud", "Distance"]

DISTANCES: dict[str, type[Distance]] = {
    "wasserstein": Wasserstein,
    "subsampled": Subsampled,
}
