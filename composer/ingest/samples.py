"""One source becomes samples: its rows in order, each kept with its token counts or dropped with its reason.

Rows go through in batches of a thousand. A batch is one shard that says what became of each of its rows, so that a run that
was stopped goes on where it was, and what is counted is what is written.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from composer import tables
from composer.artifact import shard
from composer.encode import Tokenizer
from composer.errors import SourceError
from composer.ingest import hub
from composer.ingest.files import BATCH, READERS
from composer.ingest.location import Dataset, locate
from composer.ingest.outcomes import FILTERED, OUTCOME, outcomes
from composer.ingest.sink import sink
from composer.progress import bar
from composer.types import Source

IS_KEPT = pl.col("reason").is_null()
IS_DROPPED = pl.col("reason").is_not_null() & (pl.col("reason") != FILTERED)


def ingest(source: Source, folder: Path, *, tokenizer: Tokenizer, max_length: int) -> dict[str, Any]:
    """Write a source's samples, instructions and dropped rows into a folder and return what was counted.

    ``seen = kept + filtered + sum(dropped)``. Rows are numbered from zero over all files of the source; ``shapes``,
    ``licenses``, tokens (at most ``max_length`` a row) and ``truncated`` are counted over the kept rows. With
    ``source.limit`` reading stops at the last row that is still wanted.

    A folder belongs to one question: shards of a stopped run are taken up without a look at where they came from.

    Raises
    ------
    SourceError
        Where the source cannot be read, or no row of it is kept.
    """
    shards = folder / ".shards"
    shards.mkdir(parents=True, exist_ok=True)
    kept: set[str] = set()
    paths: list[Path] = []
    rows = enumerate(_rows(source))
    with bar(f"ingest {source.name}") as shown:
        while (source.limit is None or len(kept) < source.limit) and (batch := list(islice(rows, BATCH))):

            def build(aside: Path, batch: list[tuple[int, object]] = batch) -> None:
                frame = outcomes(batch, source=source, kept=kept, tokenizer=tokenizer, max_length=max_length)
                tables.write(frame, aside, OUTCOME)

            paths.append(shard(shards, f"{len(paths):06}.parquet", build))
            kept.update(pl.read_parquet(paths[-1], columns=["sample_id"])["sample_id"].drop_nulls())
            shown.advance(len(batch))
    every = pl.scan_parquet(paths) if paths else pl.LazyFrame(schema=pl.Schema(OUTCOME))
    if not kept:
        raise _no_rows(source, every)
    _write(paths, source, folder)
    stats = _stats(every)
    shutil.rmtree(shards)
    return stats


def _rows(source: Source) -> Iterator[object]:
    place = locate(source)
    if isinstance(place, Dataset):
        yield from hub.rows(source)
        return
    where = f"sources.{source.name}.path"
    for path in place.paths:
        try:
            yield from READERS[path.suffix.lower()](path)
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror}", where=where, got=str(path)) from None
        except SourceError as error:
            raise error.within(where) from None


def _write(paths: list[Path], source: Source, folder: Path) -> None:
    of_all = {"source": source.name, "domain": source.domain, "role": source.role}
    named = [pl.lit(value).alias(name) for name, value in of_all.items()]

    def chosen(which: pl.Expr, schema: tables.Schema) -> Iterator[pl.DataFrame]:
        return (pl.read_parquet(path).filter(which).with_columns(named).select(list(schema)) for path in paths)

    sink(chosen(IS_KEPT, tables.SAMPLE), folder / "samples.parquet", tables.SAMPLE)
    sink(chosen(IS_DROPPED, tables.DROPPED), folder / "dropped.parquet", tables.DROPPED)
    instructions = pl.scan_parquet(paths).filter(IS_KEPT).select("instruction_id", text="instruction")
    unique = instructions.unique("instruction_id", keep="first", maintain_order=True)
    sink([unique.collect()], folder / "instructions.parquet", tables.INSTRUCTION)


def _stats(every: pl.LazyFrame) -> dict[str, Any]:
    kept = every.filter(IS_KEPT)
    # Sums of UInt32 would wrap at four thousand million tokens.
    sums = kept.select(pl.col("n_tokens", "n_loss_tokens").cast(pl.Int64).sum(), pl.col("truncated").sum())
    total = every.select(seen=pl.len(), kept=IS_KEPT.sum(), filtered=(pl.col("reason") == FILTERED).sum())
    return {
        **total.collect().row(0, named=True),
        "dropped": _tally(every.filter(IS_DROPPED), "reason"),
        "shapes": _tally(kept, "shape"),
        **sums.collect().row(0, named=True),
        "licenses": _tally(kept, "license"),
    }


def _tally(frame: pl.LazyFrame, column: str) -> dict[str, int]:
    return dict(sorted(frame.group_by(column).len().collect().iter_rows()))


def _no_rows(source: Source, every: pl.LazyFrame) -> SourceError:
    counts = _tally(every.filter(~IS_KEPT), "reason")
    got = ", ".join(f"{n} {reason}" for reason, n in counts.items()) or "an empty source"
    first = every.filter(IS_DROPPED).select("row", "text").head(1).collect()
    hint = f"row {first['row'][0]} reads {first['text'][0][:120]!r}" if len(first) else "check the file and source.where"
    expected = f"a row of shape {source.adapter}" if source.adapter != "auto" else "a row of a known shape"
    return SourceError("no rows", where=f"sources.{source.name}.path", expected=expected, got=got, hint=hint)
