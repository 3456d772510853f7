"""Rows in random order."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.select.base import Selector


class UniformSelector(Selector):
    """Every order of the rows is as likely as any other.

    Examples
    --------
    >>> rows = pl.DataFrame({"sample_id": ["a", "b", "c"], "instruction_id": ["i", "i", "j"]})
    >>> sorted(UniformSelector().order(rows, scores=None, n=2, seed=7).tolist())
    [0, 1, 2]
    """

    name: Literal["uniform"] = "uniform"
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "random rows"

    def rank(
        self,
        rows: pl.DataFrame,
        *,
        scores: pl.DataFrame | None,  # noqa: ARG002
        n: int,  # noqa: ARG002
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return a random permutation."""
        return generator.permutation(rows.height)
