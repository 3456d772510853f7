"""The base of the ways in which two rows can be copies of each other.

Being nearly alike is no equivalence: a may resemble b and b resemble c where a and c have little in common. So rows are not
merged into groups. They are taken one by one in the order of the rule that says which copy stays, and a row goes where it
is a copy of one that stays: every row that is dropped has its original in the table, and is at least as like it as asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from composer.dedup.rows import Rows
from composer.spec import Spec

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors, (m, d) float32."""

Keep = Literal["precedence", "first", "longest"] | tuple[str, ...]


class Dedup(Spec):
    """A way to find copies, and which of them stays.

    ``keep`` is ``precedence`` (a target or replay row before a reference row, then the recipe's order of sources), ``first``
    (the recipe's order alone), ``longest`` (the longest text), or a list of sources, the best first. Whatever it says, rows
    that are measured come before all others. ``floor`` is the share of its rows, and at least one, that a source keeps though
    all of them be copies.
    """

    name: str
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = ""
    reason: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()

    keep: Keep = "precedence"
    floor: float = Field(default=0.1, ge=0, le=1)

    def originals(self, rows: Rows, *, embed: Embed | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each row its exact original, and the row that stays in its place.

        Returns
        -------
        Two (n,) int64: of the rows with an equal key the one of lowest rank; and, for the row itself, the row of which it is a
        copy, its own number where it stays. Exact copies share one fate, so a row always stays or goes with its exact original.
        """
        exact = first_of_equal(rows.key, rows.rank)
        if not len(rows):
            return exact, exact
        chosen = exact == np.arange(len(rows))
        at = np.flatnonzero(chosen)
        place = np.cumsum(chosen) - 1  # of a chosen row among the chosen
        alike = self.alike(rows.take(chosen), embed=embed)
        return exact, at[alike[place[exact]]]

    def alike(self, rows: Rows, *, embed: Embed | None) -> NDArray[np.int64]:  # noqa: ARG002
        """Return the row that stays in each row's place, of rows whose keys differ; itself unless a member says otherwise."""
        return np.arange(len(rows), dtype=np.int64)


def first_of_equal(key: pl.Series, rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row the row of lowest rank among those of equal key.

    Examples
    --------
    >>> first_of_equal(pl.Series(["x", "y", "x"]), np.array([2, 1, 0])).tolist()
    [2, 1, 2]
    """
    frame = pl.DataFrame({"key": key, "rank": rank}).with_row_index("row")
    first = frame.select(pl.col("row").sort_by("rank").first().over("key"))["row"]
    return np.asarray(first.to_numpy(), dtype=np.int64)
