"""The base of the selectors: in which order the rows of one domain are taken.

A selector never sees the order in which rows happen to lie: they are sorted by id first, so the same rows give the same ids in
the same order, however they were read.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.spec import Spec, rng


class Selector(Spec):
    """A rule that puts the rows of one domain in order; whoever takes n rows takes the first n. A member gives ``rank``."""

    name: str
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = ""

    def order(self, rows: pl.DataFrame, *, scores: pl.DataFrame | None, n: int, seed: int) -> NDArray[np.int64]:
        """Return the rows' indices in the order in which they are taken.

        Parameters
        ----------
        rows
            ``sample_id`` (unique) and ``instruction_id`` of one domain; other columns are left alone.
        scores
            SCORE, for selectors that read one.
        n
            How many rows are wanted; the first n are chosen together, the rest follow at random.
        seed
            Decides what is left to chance.

        Returns
        -------
        (len(rows),) int64, a permutation.
        """
        if rows.is_empty():
            return np.empty(0, dtype=np.int64)
        by_id = rows["sample_id"].arg_sort().to_numpy()
        ranked = self.rank(rows[by_id], scores=scores, n=min(n, rows.height), generator=rng(seed, "select", self.name))
        return np.asarray(by_id[ranked], dtype=np.int64)

    def rank(
        self, rows: pl.DataFrame, *, scores: pl.DataFrame | None, n: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return a permutation of rows, one at least, that are sorted by id; ``n`` is at most their number."""
        raise NotImplementedError
