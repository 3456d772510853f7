"""The same meaning in other words: embeddings that point the same way."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from composer.dedup.base import Dedup, Embed
from composer.dedup.rows import Rows
from composer.errors import SpecError
from composer.progress import track
from composer.spec import rng, seed_of

BLOCK = 1_024  # rows whose cosines with a cluster are in memory at a time
SAMPLE = 20_000  # rows on which clusters are fitted
SLACK = 1e-6  # of a cosine in float32


class SemanticDedup(Dedup):
    """Rows whose embeddings have a cosine of ``threshold`` or more.

    Up to ``cluster_size`` rows all pairs are looked at. More are first parted into ``n / cluster_size`` clusters by k-means,
    and pairs are looked at in each of them, so that one which a border parts is missed. Time is ``O(n d (cluster_size + n /
    cluster_size))`` for vectors of d numbers, after the time of the embedder. Memory holds all texts and vectors, as some
    embedders fit their space to the texts of one call, and the cosines of 1,024 rows with their cluster.

    References
    ----------
    Abbas et al., SemDeDup, arXiv:2303.09540, section 3 (k-means, then cosines within a cluster).
    """

    name: Literal["semantic"] = "semantic"
    reference: ClassVar[str] = "SemDeDup, arXiv:2303.09540, section 3"
    summary: ClassVar[str] = "embeddings alike by cosine"
    reason: ClassVar[str] = "semantic_duplicate"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})

    threshold: float = Field(default=0.95, gt=0, le=1)
    cluster_size: int = Field(default=20_000, ge=2)

    def alike(self, rows: Rows, *, embed: Embed | None) -> NDArray[np.int64]:
        """Return the row that stays in each row's place.

        Raises
        ------
        SpecError
            Where there is no embedder.
        """
        if embed is None:
            raise SpecError("needs an embedder, which this recipe does not have", where="dedup.semantic", hint="set embed")
        out = np.arange(len(rows), dtype=np.int64)
        texts = [text for slice_ in rows.texts() for text in slice_]
        vectors = np.ascontiguousarray(embed(texts), dtype=np.float32)
        order = np.argsort(rows.rank)
        cluster = _clusters(vectors, order, max(round(len(rows) / self.cluster_size), 1))
        for which in track(range(int(cluster.max()) + 1), "semantic copies", unit="clusters"):
            members = order[cluster[order] == which]
            out[members] = members[_settled(vectors[members], rows.fixed[members], self.threshold)]
        return out


def _clusters(vectors: NDArray[np.float32], order: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Return the cluster of each row; the sample is drawn by rank, so that where rows lie does not matter."""
    if k == 1:
        return np.zeros(len(vectors), dtype=np.int64)
    from sklearn.cluster import KMeans

    drawn = rng(0, "dedup", "semantic").choice(len(order), size=min(SAMPLE, len(order)), replace=False)
    fitted = KMeans(n_clusters=k, n_init=1, random_state=seed_of(0, "dedup", "clusters")).fit(vectors[order[drawn]])
    blocks = range(0, len(vectors), BLOCK)
    return np.concatenate([fitted.predict(vectors[b : b + BLOCK]) for b in blocks]).astype(np.int64)


def _settled(vectors: NDArray[np.float32], fixed: NDArray[np.bool_], threshold: float) -> NDArray[np.int64]:
    """Return the row that stays in each row's place, of rows by rank: the first of those that stay and are as like as asked."""
    out = np.arange(len(vectors), dtype=np.int64)
    for begin in range(0, len(vectors), BLOCK):
        block = vectors[begin : begin + BLOCK]
        alike = block @ vectors[: begin + len(block)].T >= threshold - SLACK
        for i in np.flatnonzero(~fixed[begin : begin + len(block)]).tolist():
            earlier = np.flatnonzero(alike[i, : begin + i])
            stays = earlier[out[earlier] == earlier]
            if len(stays):
                out[begin + i] = stays[0]
    return out
