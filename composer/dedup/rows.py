"""The light view in which rows are compared: a key and a place in the order of each row in memory, its text only in passing.

A million rows have some gigabytes of text, and their keys, places and flags take about forty megabytes. So texts are handed out
slice by slice, as often as they are asked for, and nobody holds more than a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.types import Role

SLICE = 5_000  # rows whose texts are in memory at a time
PRECEDENCE = {"validation": 0, "target": 1, "replay": 1, "reference": 2}
TRAINED = ("target", "replay")

Texts = Callable[[], Iterator[pl.Series]]
"""What goes through texts from the first to the last, a slice at a time; it can be asked as often as wanted."""

TEXT = pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n")


@dataclass(frozen=True, kw_only=True)
class Part:
    """The rows of one source on disk: Parquet files with ``messages``, and ones with the 16-byte ``key`` of the same rows."""

    source: str
    role: Role
    files: tuple[Path, ...]
    keyed: tuple[Path, ...]

    @classmethod
    def of_read(cls, folder: Path, *, source: str, role: Role) -> Part:
        """Return the part in a folder that ``composer.ingest.read`` has written."""
        files = tuple(sorted(folder.glob("rows-*.parquet")))
        return cls(source=source, role=role, files=files, keyed=files)

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        import pyarrow.parquet as pq

        return sum(int(pq.read_metadata(path).num_rows) for path in self.files)

    def keys(self) -> pl.Series:
        """Return the key of every row."""
        if not self.keyed:
            return pl.Series("key", [], dtype=pl.Binary)
        return pl.scan_parquet(list(self.keyed)).select("key").collect()["key"]

    def texts(self) -> Iterator[pl.Series]:
        """Yield the text of every row, slice by slice: the contents of its messages, one under the other."""
        import pyarrow.parquet as pq

        for path in self.files:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=SLICE, columns=["messages"]):
                    yield pl.DataFrame(pl.from_arrow(batch)).select(text=TEXT)["text"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows to be compared with each other.

    ``key`` (n,) equals in exact copies. ``rank`` (n,) int64, each value once: of two copies the one of lower rank stays. What
    is ``fixed`` (n,) stays beside whatever it resembles, and has the lowest ranks.
    """

    key: pl.Series
    rank: NDArray[np.int64]
    fixed: NDArray[np.bool_]
    texts: Texts

    def __len__(self) -> int:
        return len(self.rank)

    def take(self, mask: NDArray[np.bool_]) -> Rows:
        """Return the rows of a mask, in the order in which they lie."""
        key = self.key.filter(pl.Series(mask))
        return Rows(key=key, rank=self.rank[mask], fixed=self.fixed[mask], texts=masked(self.texts, mask))


def joined(parts: Sequence[Part]) -> Texts:
    """Return the texts of all parts, one after the other."""
    return lambda: (slice_ for part in parts for slice_ in part.texts())


def masked(texts: Texts, mask: NDArray[np.bool_]) -> Texts:
    """Return the texts of a mask.

    Examples
    --------
    >>> texts = masked(lambda: iter([pl.Series(["a", "b"]), pl.Series(["c"])]), np.array([False, True, True]))
    >>> [slice_.to_list() for slice_ in texts()]
    [['b'], ['c']]
    """

    def chosen() -> Iterator[pl.Series]:
        begin = 0
        for slice_ in texts():
            wanted = mask[begin : begin + len(slice_)]
            begin += len(slice_)
            if wanted.any():
                yield slice_.filter(pl.Series(wanted))

    return chosen
