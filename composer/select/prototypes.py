"""Clusters of vectors and how far their members lie from the centres, for the selectors of prototypes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from composer.cluster.kmeans import Kmeans
from composer.cluster.silhouette import best_k
from composer.select.lookup import directions

_DIGITS = 9  # distances closer than this are a tie, so that rounding noise never decides who comes first


def best_clusters(vectors: NDArray[np.float32], *, ks: Iterable[int], seed: int) -> NDArray[np.int64]:
    """Return the k-means cluster of every vector, for the k of the best mean silhouette.

    A silhouette needs fewer clusters than different directions; where no k is left, each different one is a cluster.
    """
    best = best_k(vectors, ks=ks, seed=seed)
    return Kmeans(k=best if best > 1 else len(vectors)).cluster(vectors, seed=seed)


def from_centres(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cosine distance ``1 - cos(x, c)`` of every vector to the centre c of its cluster, its members' mean direction.

    Examples
    --------
    >>> from_centres(np.float32([[1, 0], [0, 9], [2, 2]]), np.array([0, 0, 1])).round(3).tolist()
    [0.293, 0.293, 0.0]
    """
    order = np.argsort(labels, kind="stable")
    start = np.flatnonzero(np.diff(labels[order], prepend=labels[order[0]] - 1))
    count = np.diff(start, append=labels.size)
    unit = directions(vectors[order])
    centres = directions(np.add.reduceat(unit, start, axis=0))
    out = np.empty(labels.size)
    out[order] = np.round(1 - np.einsum("ij,ij->i", unit, np.repeat(centres, count, axis=0)), _DIGITS)
    return out
