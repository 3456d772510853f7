"""Clusterers: which vectors belong together. A clusterer is one file, one class and one line in ``CLUSTERERS``.

Beside them: names of clusters (``naming``), a map in two dimensions (``mapping``), and how well clusters are apart
(``silhouette``).
"""

from __future__ import annotations

from composer.cluster.base import Clusterer
from composer.cluster.density import Density
from composer.cluster.kmeans import Kmeans

__all__ = ["CLUSTERERS", "Clusterer"]

CLUSTERERS: dict[str, type[Clusterer]] = {"kmeans": Kmeans, "density": Density}
