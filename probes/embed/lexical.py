"""Latent semantic analysis of the texts themselves: needs no model and no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from probes.embed import Embedder

_NOTHING = 1e-6  # of a TF-IDF row of norm 1; below that only rounding is left


class Lexical(Embedder):
    """TF-IDF of words and word pairs, reduced by a truncated singular value decomposition.

    ``X = U S V'`` over the distinct texts, ``x -> V' x / |V' x|`` with sublinear term frequencies. The space is fitted on the
    texts given and belongs to them: vectors of two calls must not be compared. It does not depend on the order of the texts or
    on how often one occurs. ``dims`` is lowered to what the texts allow. A text of which nothing lies in the space (no word,
    or only words outside the ``max_features`` most frequent) is placed on one extra dimension, which exists only where it is
    needed: such texts are equal to one another and orthogonal to the rest.

    References
    ----------
    Deerwester et al., Indexing by latent semantic analysis, JASIS 41 (1990), section 4.

    Examples
    --------
    >>> rows = Lexical(dims=8).encode(["sort a list", "sort the list", "who was king"])
    >>> bool(rows[0] @ rows[1] > rows[0] @ rows[2])
    True
    """

    reference: ClassVar[str] = "Deerwester et al. 1990, section 4"
    summary: ClassVar[str] = "TF-IDF and a truncated SVD, fitted on the texts themselves; offline"
    fitted: ClassVar[bool] = True

    name: Literal["lexical"] = "lexical"
    dims: int = Field(default=256, ge=1)
    max_features: int = Field(default=65_536, ge=1)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 rows of unit norm, shape (n, at most dims + 1)."""
        distinct, where = np.unique(np.array(texts, dtype=object), return_inverse=True)
        if not len(distinct):
            return np.zeros((0, self.dims), dtype=np.float32)
        rows = self._project(distinct.tolist())
        norm = np.linalg.norm(rows, axis=1)
        empty = norm < _NOTHING
        if empty.any():
            rows = np.column_stack([np.where(empty[:, None], 0, rows), empty])
            norm = np.where(empty, 1, norm)
        return np.ascontiguousarray((rows / norm[:, None]).astype(np.float32)[where])

    def _project(self, texts: list[str]) -> np.ndarray:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_features=self.max_features
        )
        try:
            table = words.fit_transform(texts)
        except ValueError:  # scikit-learn's way to say that no text has a word
            return np.zeros((len(texts), 0))
        if min(table.shape) == 1:
            return np.asarray(table.toarray()[:, :1])
        dims = min(self.dims, *table.shape)
        # the seed is part of the method; scikit-learn fixes the sign of every singular vector
        return np.asarray(TruncatedSVD(dims, random_state=0).fit_transform(table))
