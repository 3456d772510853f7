"""Keys that were met before: 128 bits each, in 24 to 48 bytes, where a set of Python's takes over a hundred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SLOTS = 1 << 14
_FULL = 2 / 3  # of the slots
_STRETCH = 1 << 16  # keys that are moved at once


class Met:
    """A growing set of keys of 16 bytes, a table with open addresses.

    Keys are taken to be even (they are hashes); that of sixteen zeros, which marks a free slot, is never met again.

    Examples
    --------
    >>> met = Met()
    >>> met.add([b"a" * 16, b"b" * 16, b"a" * 16]).tolist(), met.add([b"b" * 16, b"c" * 16]).tolist()
    ([True, True, False], [False, True])
    """

    def __init__(self) -> None:
        self._low, self._high = np.zeros((2, _SLOTS), dtype=np.uint64)
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Take keys up and return which were not met before; of equal ones the first alone."""
        low, high = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2).T
        first = _first(low, high)
        self._grow(len(first))
        fresh = np.zeros(len(low), dtype=np.bool_)
        fresh[first] = self._put(low[first], high[first])
        self._n += int(fresh.sum())
        return fresh

    def _put(self, low: NDArray[np.uint64], high: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Put distinct keys into the table, each where it meets itself or a free slot, and return which were not in it."""
        fresh = np.zeros(len(low), dtype=np.bool_)
        left, last = np.arange(len(low)), np.uint64(len(self._low) - 1)
        at = low & last
        while len(left):
            free = (self._low[at] | self._high[at]) == 0
            self._low[at[free]], self._high[at[free]] = low[left[free]], high[left[free]]  # of two for one slot the last has it
            found = (self._low[at] == low[left]) & (self._high[at] == high[left])
            fresh[left[found & free]] = True
            left, at = left[~found], (at[~found] + np.uint64(1)) & last
        return fresh

    def _grow(self, n: int) -> None:
        size = len(self._low)
        while self._n + n > size * _FULL:
            size *= 2
        if size == len(self._low):
            return
        low, high = self._low, self._high
        self._low, self._high = np.zeros((2, size), dtype=np.uint64)
        for start in range(0, len(low), _STRETCH):
            some = slice(start, start + _STRETCH)
            held = (low[some] | high[some]) != 0
            self._put(low[some][held], high[some][held])


def _first(low: NDArray[np.uint64], high: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the places of all keys but those that repeat an earlier one."""
    _, first = np.unique(low, return_index=True)
    if len(first) == len(low):
        return np.arange(len(low))
    order = np.lexsort((high, low))  # stable: the first of equal ones comes first
    begins = np.append(True, (np.diff(low[order]) != 0) | (np.diff(high[order]) != 0))
    return np.sort(order[begins])
