"""The rows that lie farthest from the centres of their clusters, as InsCL's baseline of prototypes takes them."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.candidates import Candidates
from composer.cluster.kmeans import Kmeans
from composer.select.base import Selector
from composer.select.lookup import vectors_of
from composer.select.prototypes import from_centres
from composer.types import SelectContext


class PrototypeDataSelector(Selector):
    """k-means of the rows' vectors, with as many clusters as there are instructions; then the rows farthest from their centre.

    Rows are sorted by the cosine distance to the centre of their cluster in descending order, as it was published, ties by
    chance. So it takes what is least typical, whatever its name says.

    Raises
    ------
    InputError
        For a row without a vector, or with one of zeros.

    References
    ----------
    InsCL, arXiv:2403.11435, baseline Prototype Data.

    Examples
    --------
    >>> rows = pl.DataFrame({"sample_id": ["a", "b", "c"], "instruction_id": ["i", "i", "i"]})
    >>> vectors = pl.DataFrame({"sample_id": ["a", "b", "c"], "vector": [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]})
    >>> PrototypeDataSelector().order(rows, context=SelectContext(sample_embeddings=vectors), n=1, seed=7).tolist()
    [2, 0, 1]
    """

    name: Literal["prototype_data"] = "prototype_data"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, baseline Prototype Data"
    summary: ClassVar[str] = "rows farthest from the centres of as many clusters as there are instructions"
    needs: ClassVar[frozenset[str]] = frozenset({"sample_embeddings"})

    def rank(
        self,
        rows: Candidates,
        *,
        context: SelectContext,
        n: int,  # noqa: ARG002
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return the rows by their distance, the farthest first."""
        table = cast("pl.DataFrame", context.sample_embeddings)
        vectors = vectors_of(rows.rows["sample_id"], table, where="select prototype_data")
        labels = Kmeans(k=rows.size.size).cluster(vectors, seed=int(generator.integers(2**31)))
        return np.lexsort((generator.random(len(rows)), -from_centres(vectors, labels)))
