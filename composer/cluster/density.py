"""As many clusters as there are dense regions, and noise between them."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from composer.cluster.base import Clusterer, Directions
from composer.neighbours import dbscan


class Density(Clusterer):
    """DBSCAN under the cosine distance: vectors that lie close together in numbers are a cluster, the rest is noise (-1).

    ``eps`` is the largest distance of neighbours, and a vector with ``min_samples`` of them, itself included, is inside a
    cluster (:func:`composer.neighbours.dbscan`). Which ``eps`` parts what depends on the embedder. Nothing is drawn. A vector
    at the border of two clusters goes to the one that comes first in the order of the vectors' values.

    References
    ----------
    Ester et al., A density-based algorithm for discovering clusters, KDD 1996, section 3.

    Examples
    --------
    >>> Density(eps=0.1, min_samples=2).cluster([[1, 0], [0, 1], [9, 1], [-1, 0], [8, 1], [1, 9]], seed=1).tolist()
    [0, 1, 0, -1, 0, 1]
    """

    name: Literal["density"] = "density"
    reference: ClassVar[str] = "Ester et al., KDD 1996, section 3"
    summary: ClassVar[str] = "DBSCAN: as many clusters as there are dense regions; the rest is noise"

    eps: float = Field(default=0.2, gt=0, le=2)
    min_samples: int = Field(default=5, ge=1)

    def parts(self, rows: Directions, count: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:  # noqa: ARG002
        """Return the region of each row; a row that occurs several times is as many neighbours."""
        labels = dbscan(np.repeat(rows.take(), count, axis=0), eps=self.eps, min_samples=self.min_samples)
        return np.asarray(labels[np.cumsum(count) - count], dtype=np.int64)
