"""The columns of a table as masks and texts.

Masks are numpy's: a query of polars costs a fifth of a millisecond, which a block of some thousand rows would pay dozens of
times over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.ingest.texts import Texts, numbers

Mask = NDArray[np.bool_]


class Columns:
    """The columns of a table, looked at as masks and texts."""

    def __init__(self, table: Any) -> None:
        columns = zip(table.column_names, table.columns, strict=True)
        self._arrays = {name: c.chunk(0) if c.num_chunks == 1 else c.combine_chunks() for name, c in columns}
        self._texts, self.n = dict[str, Texts](), int(table.num_rows)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def array(self, name: str) -> Any:
        """Return a column as one Arrow array."""
        return self._arrays[name]

    def series(self, name: str) -> pl.Series:
        """Return a column of texts."""
        return pl.Series(self.array(name), dtype=pl.String)

    def valid(self, name: str) -> Mask:
        """Return where a column has a value; nowhere, where there is none."""
        array = self._arrays.get(name)
        if array is None or array.null_count == self.n:
            return np.zeros(self.n, dtype=np.bool_)
        if not array.null_count:
            return np.ones(self.n, dtype=np.bool_)
        bits = np.unpackbits(np.frombuffer(array.buffers()[0], dtype=np.uint8), bitorder="little")
        return bits[array.offset : array.offset + self.n].astype(np.bool_)

    def texts(self, name: str) -> Texts:
        """Return a column's texts."""
        if name not in self._texts:
            self._texts[name] = Texts.of(self.array(name))
        return self._texts[name]

    def says(self, name: str) -> Mask:
        """Return where a column surely has a text that is not blank."""
        return self.texts(name).says(np.arange(self.n)) if name in self else np.zeros(self.n, dtype=np.bool_)

    def lengths(self, name: str) -> NDArray[np.int64]:
        """Return how long each text or list of a column is."""
        array = self.array(name)
        if not hasattr(array, "value_lengths"):
            return np.diff(self.texts(name).offsets)
        return np.where(self.valid(name), np.diff(numbers(array.offsets)), 0)
