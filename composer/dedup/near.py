"""Nearly the same text: the Jaccard index of two rows' word n-grams reaches a threshold. MinHash finds, sets decide."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from composer.dedup.base import Dedup, Embed
from composer.dedup.minhash import bucket_ids, signatures
from composer.dedup.resolve import settle
from composer.dedup.rows import Rows
from composer.dedup.sets import Sets

RECALL = 0.99
SEED = 42  # of the permutations: part of the method, not of an experiment


class NearDedup(Dedup):
    """Rows whose sets of word ``ngram``-grams have ``|A & B| / |A | B| >= threshold``.

    Pairs are looked for by MinHash: two signatures of ``permutations`` minima agree in each with probability J, and a pair is
    looked at where all r minima of one of b ``bands`` agree, which has the probability ``1 - (1 - J^r)^b``. Unless given, b is
    the least that finds a pair at the threshold with probability 0.99. Every pair found is then measured on the sets
    themselves, so that no row is dropped for a chance likeness. At a threshold of 1 copies are the rows of equal sets.

    The text of a row is all its messages; case and white space do not count, punctuation does. A text shorter than an n-gram is
    a single gram, so it has no near copies but its own words. Mind that long prompts that differ in a short question are alike.

    Time grows with the rows and with the pairs found; memory with the rows (about 30 bytes a band for each); the sets of rows
    that share a bucket lie in a temporary file. In a crowd of rows that are alike but no copies, a row is compared with the 256
    that share the most bands with it.

    References
    ----------
    Broder, On the resemblance and containment of documents, 1997. Lee et al., Deduplicating Training Data Makes Language Models
    Better, arXiv:2107.06499, section 4.2 (MinHash, then a check of the pairs found).
    """

    name: Literal["near"] = "near"
    reference: ClassVar[str] = "Broder 1997; Lee et al., arXiv:2107.06499, section 4.2"
    summary: ClassVar[str] = "word n-grams alike by Jaccard, found by MinHash and measured on the sets"
    reason: ClassVar[str] = "near_duplicate"

    threshold: float = Field(default=0.8, gt=0, le=1)
    ngram: int = Field(default=3, ge=1)
    permutations: int = Field(default=128, ge=1, le=1024)
    bands: int | None = Field(default=None, ge=1)

    @property
    def shape(self) -> tuple[int, int]:
        """The number of bands and of minima in each.

        Examples
        --------
        >>> NearDedup().shape, NearDedup(bands=16).shape, NearDedup(threshold=1).shape
        ((21, 6), (16, 8), (1, 128))
        """
        if self.bands is not None:
            b = min(self.bands, self.permutations)
            return b, self.permutations // b
        for r in range(self.permutations, 1, -1):
            b = self.permutations // r
            if 1 - (1 - self.threshold**r) ** b >= RECALL:
                return b, r
        return self.permutations, 1

    def alike(self, rows: Rows, *, embed: Embed | None) -> NDArray[np.int64]:  # noqa: ARG002
        """Return the row that stays in each row's place."""
        out = np.arange(len(rows), dtype=np.int64)
        bands, width = self.shape
        buckets = bucket_ids(signatures(rows.texts(), n=self.ngram, bands=bands, width=width, seed=SEED, total=len(rows)))
        shared = np.asarray((buckets >= 0).any(axis=1))
        if shared.any():
            at, few = np.flatnonzero(shared), rows.take(shared)
            with Sets(few.texts(), n=self.ngram, total=len(few)) as sets:
                out[at] = at[settle(few, buckets[shared], sets, threshold=self.threshold)]
        return out
