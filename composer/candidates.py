"""The rows of one domain that a selector chooses from, in an order that has nothing to do with how they were read.

They are brought into this order once and asked for at every phase: rows of one instruction lie side by side, so that to draw
of an instruction is to draw of a range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

Key = Literal["sample_id", "instruction_id"]


@dataclass(frozen=True, eq=False, init=False)
class Candidates:
    """Rows sorted by ``instruction_id``, then ``sample_id``; ``instruction_ids`` (m,) are distinct, each with ``size`` rows.

    It is made of any rows with these two columns; the others come along.

    Examples
    --------
    >>> made = Candidates(pl.DataFrame({"sample_id": ["c", "b", "a"], "instruction_id": ["i", "j", "i"]}))
    >>> made.rows["sample_id"].to_list(), made.instruction_ids.to_list(), made.size.tolist()
    (['a', 'c', 'b'], ['i', 'j'], [2, 1])
    >>> made.instruction.tolist()
    [0, 0, 1]
    """

    rows: pl.DataFrame
    instruction_ids: pl.Series
    size: NDArray[np.int64]
    _found: dict[str, tuple[pl.DataFrame, pl.DataFrame]]

    def __init__(self, rows: pl.DataFrame) -> None:
        in_order = rows.sort("instruction_id", "sample_id")
        runs = in_order["instruction_id"].rle().struct.unnest()
        object.__setattr__(self, "rows", in_order)
        object.__setattr__(self, "instruction_ids", runs["value"].alias("instruction_id"))
        object.__setattr__(self, "size", runs["len"].to_numpy().astype(np.int64))
        object.__setattr__(self, "_found", {})

    def __len__(self) -> int:
        return self.rows.height

    @property
    def instruction(self) -> NDArray[np.int64]:
        """The place of every row's instruction among ``instruction_ids``."""
        return np.repeat(np.arange(self.size.size), self.size)

    def scores_in(self, table: pl.DataFrame, key: Key) -> pl.DataFrame:
        """Return the table's scores of these rows, or of their instructions: ``at``, the place of either, score and value.

        The scores of the last table are remembered: one of millions of rows is searched once and not at every phase.

        Examples
        --------
        >>> made = Candidates(pl.DataFrame({"sample_id": ["c", "b"], "instruction_id": ["i", "j"]}))
        >>> table = pl.DataFrame({"instruction_id": ["j", "k"], "score": ["insinfo", "insinfo"], "value": [0.7, 0.2]})
        >>> made.scores_in(table, "instruction_id").rows()
        [(1, 'insinfo', 0.7)]
        """
        last, found = self._found.get(key, (None, None))
        if last is not table or found is None:
            ids = self.rows["sample_id"] if key == "sample_id" else self.instruction_ids
            named = ids.to_frame().with_row_index("at").join(table, on=key)
            found = named.select("at", "score", "value")
            self._found[key] = table, found
        return found
