"""How well clusters are apart, and the number of clusters for which they are so most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.cluster.base import distinct
from composer.cluster.kmeans import Kmeans
from composer.errors import SpecError
from composer.neighbours import unit_rows

_BLOCK: Final = 4096  # rows whose distances to all clusters are in memory at a time


def silhouette(vectors: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean silhouette ``(b - a) / max(a, b)`` under the cosine distance.

    a is a vector's mean distance to the others of its cluster, b the least of its mean distances to another cluster. A vector
    alone in its cluster counts as 0 and noise (-1) is left out. For unit vectors ``mean 1 - cos(x, y) = 1 - x . mean(y)``, so
    that the value is exact in time ``O(m k d)`` and no pair of vectors is looked at.

    Parameters
    ----------
    vectors
        (m, d), of any length but zero.
    labels
        (m,) integers.

    Returns
    -------
    From -1 to 1; larger is better.

    Raises
    ------
    SpecError
        For fewer than two clusters, or as many labels as there are not vectors.

    References
    ----------
    Rousseeuw, Silhouettes, J. Comput. Appl. Math. 20 (1987), section 2.

    Examples
    --------
    >>> silhouette([[1, 0], [2, 0], [0, 1], [0, 3]], [0, 0, 1, 1])
    1.0
    """
    rows, own = unit_rows(vectors, where="vectors", dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if own.shape != (len(rows),):
        raise SpecError("labels of other vectors", where="labels", expected=f"the shape ({len(rows)},)", got=own.shape)
    rows, own = rows[own >= 0], own[own >= 0]
    size = np.bincount(own)
    own, size = (np.cumsum(size > 0) - 1)[own], size[size > 0]
    if len(size) < 2:
        raise SpecError("one cluster is apart from nothing", where="labels", expected="two clusters or more", got=len(size))
    total = np.zeros((len(size), rows.shape[1]))
    np.add.at(total, own, rows)
    blocks = range(0, len(rows), _BLOCK)
    values = [_values(rows[i : i + _BLOCK] @ total.T, own[i : i + _BLOCK], size) for i in blocks]
    return float(np.concatenate(values).mean())


def best_k(vectors: ArrayLike, *, ks: Iterable[int], seed: int) -> int:
    """Return the k of k-means whose clusters have the largest silhouette, the least of equals.

    A silhouette takes two clusters at least and is 0 where each has one vector, so that only k from 2 to one below the number
    of distinct vectors are looked at; where none of ``ks`` is, the answer is 1.

    References
    ----------
    Rousseeuw 1987, section 4; InsCL (2403.11435) chooses so the clusters of its baseline, Prototype Instruction.

    Examples
    --------
    >>> best_k([[9, 1], [9, 2], [1, 9], [2, 9], [-9, 1], [-9, 2]], ks=range(2, 6), seed=1)
    3
    """
    rows = unit_rows(vectors, where="vectors", dtype=np.float32)
    m = len(distinct(rows)[0])
    best, most = 1, -np.inf
    for k in sorted({k for k in ks if 2 <= k < m}):
        labels = Kmeans(k=k).cluster(rows, seed=seed)
        value = silhouette(rows, labels) if labels.max() > 0 else -np.inf
        if value > most:
            best, most = k, value
    return best


def _values(product: NDArray[np.float64], own: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the silhouettes of rows from their scalar products with the sums of the clusters."""
    at = np.arange(len(own)), own
    others = size[own] - 1
    within = np.maximum(size[own] - product[at], 0) / np.maximum(others, 1)
    apart = 1 - product / size
    apart[at] = np.inf
    between = np.maximum(apart.min(axis=1), 0)
    larger = np.maximum(within, between)
    return np.where((others > 0) & (larger > 0), (between - within) / np.where(larger > 0, larger, 1), 0.0)
