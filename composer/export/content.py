"""The content of samples in the order of a composition, at any size: gathered in memory, or through buckets on disk.

A global shuffle asks for every row from anywhere. What fits into the bound of memory is read whole and gathered. What does not
is read once, chunk by chunk; each chunk's rows are put in the order in which they are wanted and spilled beside the output, one
batch per bucket, a bucket being a stretch of the output that fits many times into the bound. A bucket is then made of the
batches of all chunks. Both ways give the same rows in the same groups, so whoever writes them cannot tell which it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.errors import StoreError
from composer.export.ahead import ahead
from composer.export.spill import Place, Spill

COLUMNS = ("sample_id", "messages", "license", "source_revision", "extras")
"""What an exported row takes from its sample; ``sample_id`` proves that it is the right one."""

CHUNK = 64 << 20
"""Bytes of content that one reader holds while it spills; two read at a time."""

BUCKET = 128 << 20
"""Bytes of content in a bucket; one is written while the next is read."""

Places = NDArray[np.uint32]


@dataclass(frozen=True)
class _Chunk:
    """Rows ``start`` to ``stop`` of the samples, and the places in the output that take theirs from them, in order."""

    number: int
    start: int
    stop: int
    wanted: Places


class Content:
    """The content of a table of samples, handed out row by row in any order.

    Parameters
    ----------
    samples
        The file, SAMPLE.
    memory
        Bytes of decoded content that may be held at once; spilling needs about as much disk as the content has bytes.
    aside
        A folder of its own for what is spilled, made when needed and removed after use.
    """

    def __init__(self, samples: Path, *, memory: int, aside: Path) -> None:
        import pyarrow.parquet as pq

        self.path, self.memory, self.aside = samples, memory, aside
        footer = pq.read_metadata(samples)
        self._row_groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        self.n_rows, self.n_bytes = int(footer.num_rows), sum(map(_bytes, self._row_groups))

    @property
    def in_memory(self) -> bool:
        """Whether the decoded content fits into the bound."""
        return self.n_bytes <= self.memory

    @property
    def row_bytes(self) -> float:
        """About how many bytes the content of a row has, on average."""
        return self.n_bytes / max(self.n_rows, 1)

    def groups(self, rows: pl.Series, cuts: Sequence[int]) -> Iterator[pl.DataFrame]:
        """Yield the content (COLUMNS) of the samples in these rows, in this order, from each cut to the next.

        Raises
        ------
        StoreError
            Where a row is not in the table.
        """
        if missing := int((rows >= self.n_rows).sum()):
            expected = f"rows below {self.n_rows:,}"
            where, got = str(self.path), f"{missing:,} missing"
            raise StoreError("samples of the composition are not in the pool", where=where, expected=expected, got=got)
        return self._gathered(rows, cuts) if self.in_memory else self._bucketed(rows.to_numpy(), cuts)

    @cached_property
    def _whole(self) -> pl.DataFrame:
        # One chunk: a gather over many looks for every row in all of them.
        return self._read(0, self.n_rows)

    def _read(self, start: int, stop: int) -> pl.DataFrame:
        wanted = pl.scan_parquet(self.path).select(COLUMNS).slice(start, stop - start)
        return wanted.collect(engine="streaming").rechunk()

    def _gathered(self, rows: pl.Series, cuts: Sequence[int]) -> Iterator[pl.DataFrame]:
        return (self._whole[rows[start:stop]] for start, stop in pairwise(cuts))

    def _bucketed(self, rows: Places, cuts: Sequence[int]) -> Iterator[pl.DataFrame]:
        buckets = self._buckets(cuts)
        edges = np.array([bucket[0] for bucket in buckets] + [cuts[-1]], dtype=np.uint32)
        self.aside.mkdir(parents=True, exist_ok=True)
        try:
            with Spill(self.aside / "spill") as spill:
                chunks = self._chunks(rows)
                with ThreadPoolExecutor(2) as readers:
                    places = list(readers.map(lambda chunk: self._spill(chunk, rows, edges, spill), chunks))
                read = ahead(_bucket(number, chunks, edges, places, spill) for number in range(len(buckets)))
                for cuts, (held, at) in zip(buckets, read, strict=True):
                    for start, stop in pairwise(cuts):
                        yield held[at[start - cuts[0] : stop - cuts[0]]]
        finally:
            shutil.rmtree(self.aside, ignore_errors=True)

    def _chunks(self, rows: Places) -> list[_Chunk]:
        """Cut the samples into chunks, without those that no row comes from."""
        edges = np.array(_edges(self._row_groups))
        home = (np.searchsorted(edges, rows, side="right") - 1).astype(np.min_scalar_type(len(edges)))
        order = np.argsort(home, kind="stable").astype(np.uint32)
        ends = np.cumsum(np.bincount(home, minlength=len(edges) - 1))
        spans = zip(pairwise(edges.tolist()), pairwise([0, *ends.tolist()]), strict=True)
        return [
            _Chunk(i, start, stop, order[begin:end]) for i, ((start, stop), (begin, end)) in enumerate(spans) if end > begin
        ]

    def _buckets(self, cuts: Sequence[int]) -> list[list[int]]:
        """Return the cuts of every bucket: as many groups as come to about BUCKET bytes."""
        out: list[list[int]] = []
        for start, stop in pairwise(cuts):
            if out and (stop - out[-1][0]) * self.row_bytes <= BUCKET:
                out[-1].append(stop)
            else:
                out.append([start, stop])
        return out

    def _spill(self, chunk: _Chunk, rows: Places, edges: Places, spill: Spill) -> list[Place]:
        """Spill a chunk's rows in the order of the output, one batch per bucket; return where they lie."""
        found = self._read(chunk.start, chunk.stop)[pl.Series(rows[chunk.wanted] - np.uint32(chunk.start))]
        # Plain strings lie one after the other, so that a batch has its own bytes, where views would bring the whole chunk's.
        table = found.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
        ends = np.searchsorted(chunk.wanted, edges).tolist()
        return spill.write([_batch(table.slice(start, stop - start)) for start, stop in pairwise(ends)])


def checked(content: pl.DataFrame, sample_id: pl.Series) -> pl.DataFrame:
    """Return content whose rows have the ids that the composition gives them.

    Raises
    ------
    StoreError
        Where another sample stands in a row.
    """
    if not content["sample_id"].equals(sample_id):
        wrong = sample_id.filter(content["sample_id"].ne_missing(sample_id))
        hint = "compose again from these samples"
        raise StoreError("another sample in its place", where=f"sample {wrong[0]}", got=f"{len(wrong)} such rows", hint=hint)
    return content


def _bucket(
    number: int, chunks: Sequence[_Chunk], edges: Places, places: Sequence[Sequence[Place]], spill: Spill
) -> tuple[pl.DataFrame, pl.Series]:
    """Return the rows of a bucket as they were spilled, and where each row of the output stands among them."""
    import pyarrow as pa

    first, end = edges[number : number + 2]
    wanted = [chunk.wanted[slice(*np.searchsorted(chunk.wanted, (first, end)))] for chunk in chunks]
    at = np.empty(int(end - first), dtype=np.uint32)
    at[np.concatenate(wanted) - first] = np.arange(len(at))
    batches = spill.read([laid[number] for laid, mine in zip(places, wanted, strict=True) if len(mine)])
    return pl.DataFrame(pa.Table.from_batches(batches)).rechunk(), pl.Series(at)


def _batch(table: Any) -> Any:
    import pyarrow as pa

    return (table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)])[0]


def _edges(row_groups: Sequence[Any]) -> list[int]:
    """Return where chunks begin, and the end: small row groups go together up to CHUNK bytes, a large one is cut evenly."""
    edges, row, held = [0], 0, 0
    for group in row_groups:
        size = _bytes(group)
        if row > edges[-1] and held + size > CHUNK:
            edges.append(row)
            held = 0
        n_parts = max(-(-size // CHUNK), 1)
        edges += [row + part * group.num_rows // n_parts for part in range(1, n_parts)]
        row, held = row + group.num_rows, held + size // n_parts
    return [*edges, row]


def _bytes(group: Any) -> int:
    """Return about how many bytes the content of a row group has in memory."""
    columns = (group.column(i) for i in range(group.num_columns))
    return sum(int(c.total_uncompressed_size) for c in columns if c.path_in_schema.split(".")[0] in COLUMNS)
