"""The base of the selectors: in which order the rows of one domain are taken.

A selector never sees the order in which rows happen to lie: :class:`composer.candidates.Candidates` are sorted, so the same
rows give the same ids in the same order, however they were read. How much of the choice one cluster may be is seen to here,
once, for all of them.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from composer.candidates import Candidates
from composer.select.lookup import look_up
from composer.spec import Spec, rng
from composer.types import SelectContext, need

_WAY_OUT = {
    "scores": "give compose scores of samples, or choose a selector that needs none",
    "embeddings": "give the recipe an embedder, or choose a selector that needs none",
    "sample_embeddings": "give compose embeddings of samples, or choose a selector that needs none",
    "current": "say which instructions are new in this phase, or choose a selector that needs none",
    "answers": "give compose the answers of samples, or choose a selector that needs none",
    "clusters": "give the recipe a clusterer, or leave max_cluster_share out",
}
_DIGITS = 9  # a product that is a whole number but for rounding is that number


class Selector(Spec):
    """A rule that puts the rows of one domain in order; whoever takes n rows takes the first n. A member gives ``rank``.

    Of the n rows at most ``ceil(max_cluster_share * n)`` come from one cluster, as far as the others have rows: what is over
    moves behind all that is not. An instruction that is noise is a cluster of its own.
    """

    name: str
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()

    max_cluster_share: float | None = Field(default=None, gt=0, le=1)

    def order(self, rows: pl.DataFrame | Candidates, *, context: SelectContext, n: int, seed: int) -> NDArray[np.int64]:
        """Return the rows' indices in the order in which they are taken.

        Parameters
        ----------
        rows
            ``sample_id`` (unique) and ``instruction_id`` of one domain; other columns are left alone. Whoever asks often for
            the same rows makes them :class:`composer.candidates.Candidates` once; the indices are then into those.
        context
            What there is to choose by.
        n
            How many rows are wanted; the first n are chosen together, the rest follow as the selector says.
        seed
            Decides what is left to chance.

        Returns
        -------
        (len(rows),) int64, a permutation.

        Raises
        ------
        SpecError
            Where the context lacks what the selector needs.
        """
        if not len(rows):
            return np.empty(0, dtype=np.int64)
        if isinstance(rows, Candidates):
            return self._order(rows, context, min(n, len(rows)), seed)
        candidates = Candidates(rows.select("sample_id", "instruction_id").with_row_index("given"))
        order = self._order(candidates, context, min(n, len(rows)), seed)
        return candidates.rows["given"].to_numpy()[order].astype(np.int64)

    def _order(self, candidates: Candidates, context: SelectContext, n: int, seed: int) -> NDArray[np.int64]:
        capped = self.max_cluster_share is not None
        for field in sorted(self.needs | {"clusters"} if capped else self.needs):
            need(context, field, who=f"select {self.name}", hint=_WAY_OUT[field])
        ranked = self.rank(candidates, context=context, n=n, generator=rng(seed, "select", self.name))
        return self._under_the_cap(ranked, candidates, context, n) if capped else ranked

    def rank(self, rows: Candidates, *, context: SelectContext, n: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return a permutation of the rows, one at least; ``n`` is at most their number."""
        raise NotImplementedError

    def _under_the_cap(
        self, ranked: NDArray[np.int64], candidates: Candidates, context: SelectContext, n: int
    ) -> NDArray[np.int64]:
        """Return the rows with those behind that are more of their cluster than the cap, both parts in their old order."""
        table = cast("pl.DataFrame", context.clusters)
        told = look_up(candidates.instruction_ids, table, "cluster", where="select.max_cluster_share").to_numpy()
        _, cluster = np.unique(np.where(told < 0, -1 - np.arange(told.size), told), return_inverse=True)
        of_row = cluster[candidates.instruction[ranked]]
        size = np.bincount(of_row)
        place = np.empty(of_row.size, dtype=np.int64)  # of a row among those of its cluster, as ranked
        place[np.argsort(of_row, kind="stable")] = np.arange(of_row.size) - np.repeat(np.cumsum(size) - size, size)
        over = place >= math.ceil(round((self.max_cluster_share or 1) * n, _DIGITS))
        return np.concatenate([ranked[~over], ranked[over]])
