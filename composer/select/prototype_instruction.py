"""Rows of the instructions that stand for the clusters of a domain's instructions."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from composer.candidates import Candidates
from composer.errors import SpecError
from composer.select.base import Selector
from composer.select.lookup import vectors_of
from composer.select.prototypes import best_clusters, from_centres
from composer.types import SelectContext


class PrototypeInstructionSelector(Selector):
    """Random rows of the prototypes, of each cluster the instruction nearest to its centre by cosine; then those of the others.

    A domain's instructions are clustered with k-means, each once, however many rows it has. Of the numbers of clusters from
    ``least`` to ``most`` the one of the best mean silhouette is taken; where there are too few for any, each stands for itself.

    Raises
    ------
    InputError
        For an instruction without a vector, or with one of zeros.

    References
    ----------
    InsCL, arXiv:2403.11435, baseline Prototype Instruction; silhouette: Rousseeuw 1987. The range of k was not published.

    Examples
    --------
    >>> rows = pl.DataFrame({"sample_id": list("abcdef"), "instruction_id": list("ijklmn")})
    >>> at = [[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0], [0.1, 0.9], [0.2, 0.8]]
    >>> vectors = pl.DataFrame({"instruction_id": list("ijklmn"), "vector": at})
    >>> order = PrototypeInstructionSelector(most=3).order(rows, context=SelectContext(embeddings=vectors), n=2, seed=7)
    >>> sorted(rows["instruction_id"][order[:2].tolist()])
    ['j', 'm']
    """

    name: Literal["prototype_instruction"] = "prototype_instruction"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, baseline Prototype Instruction"
    summary: ClassVar[str] = "random rows of one instruction per cluster, the nearest to its centre"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})

    least: int = Field(default=2, ge=2)
    most: int = Field(default=16, ge=2)

    @model_validator(mode="after")
    def _check(self) -> PrototypeInstructionSelector:
        if self.least > self.most:
            raise SpecError("no number of clusters is left", where="least", expected=f"up to {self.most}", got=self.least)
        return self

    def rank(
        self,
        rows: Candidates,
        *,
        context: SelectContext,
        n: int,  # noqa: ARG002
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return the prototypes' rows in random order, then the others in random order."""
        table = cast("pl.DataFrame", context.embeddings)
        vectors = vectors_of(rows.instruction_ids, table, where="select prototype_instruction")
        labels = best_clusters(vectors, ks=range(self.least, self.most + 1), seed=int(generator.integers(2**31)))
        by_distance = np.lexsort((from_centres(vectors, labels), labels))
        _, nearest = np.unique(labels[by_distance], return_index=True)
        is_prototype = np.isin(np.arange(len(vectors)), by_distance[nearest])
        shuffled = generator.permutation(len(rows))
        is_first = is_prototype[rows.instruction[shuffled]]
        return np.concatenate([shuffled[is_first], shuffled[~is_first]])
