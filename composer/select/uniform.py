"""Rows in random order."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from composer.candidates import Candidates
from composer.select.base import Selector
from composer.types import SelectContext


class UniformSelector(Selector):
    """Every order of the rows is as likely as any other.

    Examples
    --------
    >>> import polars as pl
    >>> rows = pl.DataFrame({"sample_id": ["a", "b", "c"], "instruction_id": ["i", "i", "j"]})
    >>> sorted(UniformSelector().order(rows, context=SelectContext(), n=2, seed=7).tolist())
    [0, 1, 2]
    """

    name: Literal["uniform"] = "uniform"
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "random rows"

    def rank(
        self,
        rows: Candidates,
        *,
        context: SelectContext,  # noqa: ARG002
        n: int,  # noqa: ARG002
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return a random permutation."""
        return generator.permutation(len(rows))
