"""The base of the clusterers, and what each is spared: the order of the rows, copies, and the numbers of clusters.

A member sees distinct directions in an order that depends on nothing but their values, so that where a row stands in the input
cannot change its cluster; what it answers is numbered here, once.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.neighbours import with_norms
from composer.spec import Spec

_ZERO: Final = np.float32(0)  # added to a row, it makes one of the two zeros


class Directions:
    """Distinct unit rows, made when they are asked for: of many vectors there need not be a second copy."""

    def __init__(self, table: NDArray[np.float32], norm: NDArray[np.float32], first: NDArray[np.int64]) -> None:
        self._table, self._norm, self._first = table, norm, first

    def __len__(self) -> int:
        return len(self._first)

    def take(self, at: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        """Return some of the rows, float32 (n, d), all of them unless told."""
        first = self._first[at]
        rows = self._table[first]
        rows /= self._norm[first, None]
        return rows


class Clusterer(Spec):
    """A rule that parts vectors into clusters by their directions.

    A member gives ``parts``.
    """

    name: str
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = ""

    def cluster(self, vectors: ArrayLike, *, seed: int) -> NDArray[np.int64]:
        """Return the cluster of every vector, the largest one being 0; -1 is noise, which only some clusterers know.

        Clusters of equal size are numbered by their first vector, in an order of the vectors' values. Equal vectors share a
        cluster, the order of the rows does not matter, and the length of a vector matters to rounding alone.

        Parameters
        ----------
        vectors
            (m, d), of any length but zero; computed with in float32.
        seed
            Of whatever the method draws.

        Returns
        -------
        (m,) int64, without a gap from 0, or from -1 where there is noise.

        Raises
        ------
        SpecError
            For vectors that are not a table of finite numbers, or a vector of zeros.
        """
        rows, which = distinct(vectors)
        count = np.bincount(which)
        return _by_size(self.parts(rows, count, seed=seed), count)[which] if len(rows) else which

    def parts(self, rows: Directions, count: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
        """Return a label for each of the distinct rows, of which the input has ``count``; -1 is noise."""
        raise NotImplementedError


def distinct(vectors: ArrayLike) -> tuple[Directions, NDArray[np.int64]]:
    """Return the distinct directions, in an order of their values alone, and which of them every row has.

    Raises
    ------
    SpecError
        For vectors that are not a table of finite numbers, or a vector of zeros.

    Examples
    --------
    >>> directions, which = distinct([[2, 0], [0, 1], [4, 0]])
    >>> directions.take().tolist(), which.tolist()
    ([[0.0, 1.0], [1.0, 0.0]], [1, 0, 1])
    """
    table, length = with_norms(vectors, where="vectors", dtype=np.float32)
    norm = length.astype(np.float32)
    if not len(table):
        return Directions(table, norm, np.zeros(0, dtype=np.int64)), np.zeros(0, dtype=np.int64)
    ends = (table[:, [0, -1]] / norm[:, None] + _ZERO).view(np.uint32).astype(np.uint64)
    key = ends[:, 0] << np.uint64(32) | ends[:, 1]
    order = np.argsort(key, kind="stable")
    same = np.diff(key[order]) == 0
    tied = order[np.append(same, False) | np.append(False, same)]
    tie = np.zeros(len(table), dtype=np.int64)
    if len(tied):  # rows are compared as a whole only where both ends are equal: to do so takes long
        whole = np.ascontiguousarray(table[tied] / norm[tied, None] + _ZERO)
        tie[tied] = np.unique(whole.view(f"V{whole.strides[0]}").ravel(), return_inverse=True)[1]
        order = np.lexsort((tie, key))
    new = np.append(True, (np.diff(key[order]) != 0) | (np.diff(tie[order]) != 0))
    which = np.empty(len(table), dtype=np.int64)
    which[order] = np.cumsum(new) - 1
    return Directions(table, norm, order[new]), which


def _by_size(labels: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return labels numbered by the rows that carry them, the most first, then by where each first occurs; -1 stays."""
    inside = np.flatnonzero(labels >= 0)
    if not len(inside):
        return labels
    _, first, which = np.unique(labels[inside], return_index=True, return_inverse=True)
    size = np.bincount(which, weights=count[inside])
    number = np.empty(len(size), dtype=np.int64)
    number[np.lexsort((first, -size))] = np.arange(len(size))
    out = np.full(len(labels), -1, dtype=np.int64)
    out[inside] = number[which]
    return out
