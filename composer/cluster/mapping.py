"""A map of vectors in two dimensions, to be looked at: who is a neighbour on it is telling, how far apart parts lie is not."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.cluster.base import distinct
from composer.neighbours import BLOCK
from composer.spec import rng, seed_of

FITTED: Final = 2000  # vectors that t-SNE is given; its time grows faster than their number
TINY: Final = 8  # up to so many vectors have no neighbourhoods to keep
_STEPS, _PERPLEXITY, _BESIDE = 500, 30.0, 3


def cluster_map(vectors: ArrayLike, *, seed: int) -> NDArray[np.float64]:
    """Return a place in the plane for every vector, by t-SNE over their directions.

    Up to 8 distinct vectors are put on their two principal components. Of more than 2,000, t-SNE is given 2,000 that are drawn
    at random, and every other one is placed at the mean of its 3 nearest among them, weighted by the inverse of the distance.
    Equal vectors have one place, and the order of the rows does not matter.

    Parameters
    ----------
    vectors
        (m, d), of any length but zero; computed with in float32.
    seed
        Of the draw and of t-SNE.

    Returns
    -------
    (m, 2) float64, centred, with 1 for the largest coordinate.

    Raises
    ------
    SpecError
        For vectors that are not a table of finite numbers, or a vector of zeros.

    References
    ----------
    van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 9 (2008), section 3.

    Examples
    --------
    >>> cluster_map([[1, 0], [0, 1], [2, 0]], seed=1).round(6).tolist()
    [[0.5, 0.0], [-1.0, 0.0], [0.5, 0.0]]
    """
    rows, which = distinct(vectors)
    if not len(rows):
        return np.zeros((0, 2))
    places = _places(rows.take(), seed=seed)[which]
    places = places - places.mean(axis=0)
    return np.asarray(places / (abs(places).max() or 1.0), dtype=np.float64)


def _places(rows: NDArray[np.float32], *, seed: int) -> NDArray[np.float64]:
    """Return the places of distinct rows, of any scale."""
    m, d = rows.shape
    if m <= TINY or d == 1:
        return _principal(rows.astype(np.float64))
    drawn = np.arange(m)
    if m > FITTED:
        drawn = np.sort(rng(seed, "cluster", "map").choice(m, size=FITTED, replace=False))
    places = np.empty((m, 2))
    places[drawn] = _tsne(rows[drawn], seed=seed)
    others = np.setdiff1d(np.arange(m), drawn)
    for i in range(0, len(others), BLOCK):
        part = others[i : i + BLOCK]
        places[part] = _beside(rows[part], rows[drawn], places[drawn])
    return places


def _principal(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first two principal components; of each the largest coordinate is positive where two could be so."""
    centred = rows - rows.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(rows), 2))
    places[:, : min(2, len(s))] = u[:, :2] * s[:2]
    places[abs(places) < 1e-9] = 0
    top = places[abs(places).argmax(axis=0), [0, 1]]
    return places * np.where(top < 0, -1, 1)


def _tsne(rows: NDArray[np.float32], *, seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    fitted = TSNE(2, perplexity=perplexity, init="pca", max_iter=_STEPS, random_state=seed_of(seed, "cluster", "map"))
    with threadpool_limits(limits=1):  # threads sum in another order, which the descent makes the most of
        return np.asarray(fitted.fit_transform(rows), dtype=np.float64)


def _beside(rows: NDArray[np.float32], known: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places near those of the nearest known rows."""
    cosine = rows @ known.T
    near = np.argpartition(-cosine, _BESIDE, axis=1)[:, :_BESIDE]
    weight = 1 / np.maximum(1 - np.take_along_axis(cosine, near, axis=1).astype(np.float64), 1e-6)
    return np.asarray(np.einsum("nk,nkd->nd", weight / weight.sum(axis=1, keepdims=True), places[near]))
