"""A given number of clusters around their mean directions."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from composer.cluster.base import Clusterer, Directions
from composer.spec import rng, seed_of

_BLOCK: Final = 4096  # rows that are assigned at a time, as many as faiss multiplies at once


class Kmeans(Clusterer):
    """Spherical k-means by faiss: every vector goes to the centre with the largest cosine, a centre is its vectors' mean.

    Without ``k`` there are ``sqrt(m / 2)`` clusters for m distinct vectors, a rule of thumb; ``silhouette.best_k`` chooses by
    how well they are apart. A k above the number of distinct vectors is lowered to it, and a cluster that ends up empty is left
    out. Centres start at random vectors, as often as ``restarts`` says, of which the fit with the largest cosines is kept. They
    are fitted on at most ``sample`` vectors for each of them, then all vectors are assigned. Time is
    ``O(restarts iterations k min(m, k sample) d + m k d)``.

    References
    ----------
    Dhillon and Modha, Concept decompositions for large sparse text data using clustering, Machine Learning 42 (2001), section
    3. Mardia, Kent and Bibby, Multivariate Analysis (1979), p. 365 for the rule of thumb.

    Examples
    --------
    >>> Kmeans(k=2).cluster([[1, 0], [0, 1], [9, 1], [8, 1]], seed=1).tolist()
    [0, 1, 0, 0]
    """

    name: Literal["kmeans"] = "kmeans"
    reference: ClassVar[str] = "Dhillon and Modha 2001, section 3"
    summary: ClassVar[str] = "spherical k-means: a given number of clusters, or the square root of half the vectors"

    k: int | None = Field(default=None, ge=1)
    iterations: int = Field(default=25, ge=1)
    restarts: int = Field(default=5, ge=1)
    sample: int = Field(default=256, ge=1)

    def parts(self, rows: Directions, count: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
        """Return the centre of each row; a row that occurs several times weighs as much."""
        m = len(rows)
        k = min(self.k or max(round((m / 2) ** 0.5), 1), m)
        if k in (1, m):
            return np.arange(m) % k
        drawn = np.arange(m)
        if m > k * self.sample:
            drawn = np.sort(rng(seed, "cluster", "kmeans").choice(m, size=k * self.sample, replace=False))
        shown, weight = rows.take(drawn), count[drawn]
        fitted = _faiss().Kmeans(
            shown.shape[1], k, niter=self.iterations, nredo=self.restarts, seed=seed_of(seed, "cluster", "kmeans"),
            spherical=True, min_points_per_centroid=1, max_points_per_centroid=len(shown),
        )  # fmt: skip
        fitted.train(shown, weights=None if (weight == 1).all() else weight.astype(np.float32))
        blocks = range(0, m, _BLOCK)
        return np.concatenate([fitted.assign(rows.take(slice(i, i + _BLOCK)))[1] for i in blocks]).astype(np.int64)


def _faiss() -> Any:
    """Return faiss, imported without the warnings that its bindings give on newer Pythons."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Ss]wig", category=DeprecationWarning)
        import faiss

    return faiss
