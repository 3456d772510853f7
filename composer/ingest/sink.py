"""How a table too large for memory reaches the disk: frame by frame, checked, and the same bytes for the same rows.

Rows are gathered into groups of one size before they are written: where the pages of a Parquet file begin follows the chunks
it is handed, and an engine's own chunks follow the number of its threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from composer import tables

GROUP = 20_000  # rows


def sink(frames: Iterable[pl.DataFrame], path: Path, schema: tables.Schema) -> None:
    """Write frames, one after the other, as one zstd Parquet file.

    Raises
    ------
    StoreError
        Where a frame lacks a column of the schema, or has another or one of another type.
    """
    import pyarrow.parquet as pq

    oldest = pl.CompatLevel.oldest()  # plain strings, which every reader of Parquet knows
    arrow = pl.DataFrame(schema=pl.Schema(schema)).to_arrow(compat_level=oldest).schema
    with pq.ParquetWriter(path, arrow, compression="zstd", compression_level=3) as writer:
        for group in _grouped(tables.check(frame, schema, where=path.name) for frame in frames):
            writer.write_table(group.rechunk().to_arrow(compat_level=oldest), row_group_size=GROUP)


def slices(path: Path) -> Iterator[pl.DataFrame]:
    """Yield a table group by group, with the number of each row as ``row``."""
    frame = pl.scan_parquet(path).with_row_index("row")
    for start in range(0, int(frame.select(pl.len()).collect().item()), GROUP):
        yield frame.slice(start, GROUP).collect()


def _grouped(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        if sum(map(len, held)) >= GROUP:
            whole = pl.concat(held)
            full = len(whole) // GROUP * GROUP
            yield from (whole[start : start + GROUP] for start in range(0, full, GROUP))
            held = [whole[full:]]
    if any(len(frame) for frame in held):
        yield pl.concat(held)
