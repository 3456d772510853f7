"""How exported rows reach a Parquet file: group by group, encoded on all cores, and the same bytes on any number of them.

The streaming engine makes a row group of a frame that has the wanted number of rows, and ends a page by what the group holds:
so the bytes follow the groups, not the threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from composer.export.rows import SCHEMA
from composer.progress import Bar


def sink(groups: Iterator[pl.DataFrame], path: Path, *, row_group: int, shown: Bar) -> None:
    """Write groups of ``row_group`` exported rows, the last one perhaps smaller, as one file of zstd Parquet."""
    from polars.io.plugins import register_io_source

    failed: list[Exception] = []

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        try:
            for group in groups:
                yield group
                shown.advance(len(group))
        except Exception as error:  # what crosses the engine comes out as its own kind of error
            failed.append(error)
            raise

    try:
        lazy = register_io_source(source, schema=SCHEMA)
        lazy.sink_parquet(path, compression="zstd", compression_level=3, row_group_size=row_group)
    except Exception:
        if failed:
            raise failed[0] from None
        raise
