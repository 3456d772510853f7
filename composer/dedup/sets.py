"""The n-gram sets of rows that may be copies, in a temporary file, and the Jaccard index of one with several."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from composer.dedup.ngrams import chunks, ngrams
from composer.progress import bar

if TYPE_CHECKING:
    import polars as pl


class Sets:
    """One sorted array of hashed n-grams for each text; the arrays are on disk, where each of them begins is in memory.

    Examples
    --------
    >>> import polars as pl
    >>> with Sets(iter([pl.Series(["a b c d", "a b c e", "A  b c d"])]), n=2, total=3) as sets:
    ...     sets.jaccard(0, np.array([1, 2])).tolist()
    [0.5, 1.0]
    """

    def __init__(self, texts: Iterator[pl.Series], *, n: int, total: int) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        sizes: list[int] = []
        with bar("n-grams", total=total) as shown:
            for slice_ in texts:
                for chunk in chunks(slice_):
                    grams = ngrams(chunk, n, symbols=True)
                    found = [np.unique(each) for each in np.split(grams.hashes, grams.offsets[1:-1])]
                    np.concatenate(found).tofile(self._file)
                    sizes += map(len, found)
                    shown.advance(len(chunk))
        self._file.flush()
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._sizes = np.asarray(sizes, dtype=np.int64)
        self._all = np.asarray(np.memmap(self._file, dtype=np.uint64, mode="r"))  # a plain view: slices of it are cheap

    def of(self, row: int) -> NDArray[np.uint64]:
        """Return the set of a row as a sorted array."""
        return self._all[self._ends[row] - self._sizes[row] : self._ends[row]]

    def jaccard(self, row: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return ``|A & B| / |A | B|`` of a row's set with each of the others' (at least one)."""
        own = self.of(row)
        sizes = self._sizes[others]
        every = np.concatenate([self.of(other) for other in others.tolist()])
        place = np.minimum(np.searchsorted(own, every), len(own) - 1)
        common = np.add.reduceat((own[place] == every).astype(np.int64), np.cumsum(sizes) - sizes)
        return common / (len(own) + sizes - common)

    def __enter__(self) -> Sets:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
