"""Rows that share buckets, one by one: each goes where it is a copy of one that stays, and stays otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from composer.dedup.rows import Rows
from composer.dedup.sets import Sets
from composer.progress import track

CROWD = 256  # rows that stay in one bucket and are compared with those that come later, and most comparisons of a row
_SLACK = 1e-12  # of a quotient of two integers


def settle(rows: Rows, buckets: NDArray[np.int32], sets: Sets, *, threshold: float) -> NDArray[np.int64]:
    """Return the row that stays in each row's place: of the copies among those that stay, the one of lowest rank.

    Parameters
    ----------
    buckets
        (rows, bands) int32: the bucket of a row in each band, -1 where it shares none.
    """
    out = np.arange(len(rows), dtype=np.int64)
    stay = _Stay(buckets, rows.rank)
    for row in track(np.argsort(rows.rank).tolist(), "near copies", total=len(rows)):
        mine = buckets[row]
        mine = mine[mine >= 0]
        if not rows.fixed[row] and len(candidates := stay.sharing(mine)):
            copies = candidates[sets.jaccard(row, candidates) >= threshold - _SLACK]
            if len(copies):
                out[row] = copies[np.argmin(rows.rank[copies])]
                continue
        stay.add(row, mine)
    return out


class _Stay:
    """The rows that stay, by bucket; a bucket remembers the first ``CROWD`` of them."""

    def __init__(self, buckets: NDArray[np.int32], rank: NDArray[np.int64]) -> None:
        self._rank = rank
        room = np.minimum(np.bincount(buckets[buckets >= 0]), CROWD)
        self._end = np.cumsum(room)
        self._begin = self._end - room
        self._filled = self._begin.copy()
        self._members = np.empty(int(room.sum()), dtype=np.int64)

    def sharing(self, buckets: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the rows that share a bucket, at most ``CROWD`` of them: those that share the most."""
        filled = self._filled[buckets]
        begin = self._begin[buckets]
        every = np.concatenate([self._members[a:b] for a, b in zip(begin.tolist(), filled.tolist(), strict=True)])
        if len(every) <= CROWD:
            return np.array(sorted(set(every.tolist())), dtype=np.int64)
        rows, times = np.unique(every, return_counts=True)
        return rows if len(rows) <= CROWD else rows[np.lexsort((self._rank[rows], -times))[:CROWD]]

    def add(self, row: int, buckets: NDArray[np.int32]) -> None:
        """Remember that a row stays."""
        room = buckets[self._filled[buckets] < self._end[buckets]]
        self._members[self._filled[room]] = row
        self._filled[room] += 1
