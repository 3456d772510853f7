"""The rows of the highest score, or of the lowest."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from composer.candidates import Candidates
from composer.select.base import Selector
from composer.select.scoring import refuse, values_of
from composer.types import SelectContext


class TopSelector(Selector):
    """Rows by a score of samples, the highest first (``lowest``: the lowest), ties by chance; those without a value come last.

    Of several values of one sample the one that puts it further ahead counts.

    Raises
    ------
    SpecError
        For a score that was not computed.

    Examples
    --------
    >>> import polars as pl
    >>> rows = pl.DataFrame({"sample_id": ["a", "b", "c"], "instruction_id": ["i", "i", "j"]})
    >>> scores = pl.DataFrame({"sample_id": ["a", "c"], "score": ["ifd", "ifd"], "value": [0.2, 0.9]})
    >>> TopSelector(score="ifd").order(rows, context=SelectContext(scores=scores), n=2, seed=7).tolist()
    [2, 0, 1]
    """

    name: Literal["top"] = "top"
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "the rows of the highest (or lowest) score"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})

    score: str
    lowest: bool = False

    def rank(
        self,
        rows: Candidates,
        *,
        context: SelectContext,
        n: int,  # noqa: ARG002
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return the rows by their score."""
        known = values_of(rows, self.score, context.scores, key="sample_id")
        if known is None:
            refuse(self.score, context.scores, hint="name a score of samples that was computed")
        sign = -1 if self.lowest else 1
        ahead = np.full(len(rows), -np.inf)
        np.maximum.at(ahead, known["at"].to_numpy(), sign * known["value"].to_numpy())
        return np.lexsort((generator.random(len(rows)), -ahead))
