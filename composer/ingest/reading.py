"""The first step of ingest: a source's raw rows become conversations, once each, with an account of every row.

Blocks are read in order, judged side by side by all cores and joined in order again, so that of several copies the first stays
whatever the number of threads. Every so many rows become a part on disk; a run that was stopped goes on after its last part.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from composer import tables
from composer.errors import SourceError
from composer.fingerprint import write_json
from composer.ingest import hub
from composer.ingest.files import READERS, Block, unreadable
from composer.ingest.judging import EXCERPT, LOST, ROW, Judged, judge
from composer.ingest.location import Dataset, Files, locate
from composer.ingest.met import Met
from composer.ingest.opening import ending
from composer.progress import bar
from composer.types import Source

PART = 20_000
"""Raw rows after which a part is written: what a stopped run may have to do again."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h

GROUP = 20_000  # rows of a row group

_AS_IT_IS: dict[str, Any] = {
    "write_statistics": False,
    "use_dictionary": ["shape", "messages.list.element.role", "license", "repairs.list.element", "source", "reason"],
}


def read(source: Source, folder: Path, *, columnar: bool = True) -> dict[str, Any]:
    """Write a source's rows into parts ``rows-*.parquet`` (ROW) and ``dropped-*.parquet`` (DROPPED) and return their counts.

    ``seen = kept + repaired + sum(dropped)``, where ``samples = kept + repaired`` rows are written and ``filtered`` rows, which
    ``source.where`` does not want, are not seen. Rows are numbered from zero over all files. Of rows with one normalised text
    the first stays and the others are ``duplicate``. With ``source.limit`` reading stops at the last row that is still wanted.

    A folder belongs to one question: parts of a stopped run are taken up without a look at where they came from.

    Raises
    ------
    SourceError
        Where the source is missing, or a file changes while it is read.
    """
    _keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    state = _State.resumed(folder, source)
    blocks = islice(blocks_of(source), state.blocks, None)
    with bar(f"read {source.name}") as shown, ThreadPoolExecutor(_threads()) as pool:
        shown.advance(state.rows)
        for judged in _in_order(pool, blocks, source, columnar):
            state.take(judged, pool)
            shown.advance(judged.size)
            if state.done:
                break
        state.close(pool)
    return counts(folder)


def blocks_of(source: Source) -> Iterator[Block]:
    """Yield the blocks of a source, file by file; a file that cannot be opened is one broken row.

    Raises
    ------
    SourceError
        Where the source is missing, or a file changes while it is read.
    """
    place = locate(source)
    if isinstance(place, Dataset):
        yield from hub.blocks(source)
    elif isinstance(place, Files):
        for path in place.paths:
            yield from _file(path, source)


def rows(source: Source) -> Iterator[object]:
    """Yield the raw rows of a source: mappings, other JSON values, Mended or Broken."""
    for block in blocks_of(source):
        yield from block.values(range(block.size))


def counts(folder: Path) -> dict[str, Any]:
    """Return what the parts of a folder hold, as :func:`read` reports it."""
    read_rows = pl.scan_parquet(folder / "rows-*.parquet")
    lost = pl.scan_parquet(folder / "dropped-*.parquet")
    done = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("part-*.json"))]
    touched = pl.col("repairs").list.len() > 0
    total = read_rows.select(samples=pl.len(), repaired=touched.sum()).collect().row(0, named=True)
    dropped = tally(lost, "reason")
    repairs = tally(read_rows.filter(touched).select(pl.col("repairs").explode()), "repairs")
    return {
        "seen": total["samples"] + sum(dropped.values()),
        "samples": total["samples"],
        "kept": total["samples"] - total["repaired"],
        "repaired": total["repaired"],
        "filtered": sum(part["filtered"] for part in done),
        "dropped": dropped,
        "repairs": repairs,
        "shapes": tally(read_rows, "shape"),
        "licenses": tally(read_rows, "license"),
    }


def tally(frame: pl.LazyFrame, column: str) -> dict[str, int]:
    """Return how often each value of a column comes, by value."""
    return dict(sorted(frame.group_by(column).len().collect().iter_rows()))


@dataclass
class _State:
    """What a reading has come to: the parts on disk, and the rows of the next one."""

    folder: Path
    source: Source
    part: int = 0
    blocks: int = 0
    rows: int = 0
    samples: int = 0
    keys: Met = field(default_factory=Met)
    held: list[Judged] = field(default_factory=list)
    writing: Future[None] | None = None

    @classmethod
    def resumed(cls, folder: Path, source: Source) -> _State:
        """Return the state after the last part on disk."""
        state = cls(folder, source)
        while (path := folder / f"part-{state.part:05}.json").is_file():
            known = json.loads(path.read_text(encoding="utf-8"))
            keys = pl.read_parquet(folder / f"rows-{state.part:05}.parquet", columns=["key"])["key"].to_list()
            state.keys.add(keys)
            state.part, state.blocks, state.rows = state.part + 1, state.blocks + known["blocks"], state.rows + known["rows"]
            state.samples += len(keys)
        return state

    @property
    def done(self) -> bool:
        """Whether no more rows are wanted."""
        return self.source.limit is not None and self.samples >= self.source.limit

    def take(self, judged: Judged, pool: ThreadPoolExecutor) -> None:
        """Add a block after those before it, and write a part where one is full."""
        judged = judged.shifted(self.rows)
        fresh = _once(judged, self.keys)
        if self.source.limit is not None and self.samples + len(fresh.rows) >= self.source.limit:
            fresh = _up_to(fresh, self.source.limit - self.samples, begins=self.rows)
        self.held.append(fresh)
        self.rows += fresh.size
        self.samples += len(fresh.rows)
        if sum(each.size for each in self.held) >= PART:
            self._write(pool)

    def close(self, pool: ThreadPoolExecutor) -> None:
        """Write what is left, and wait for what is being written."""
        if self.held or not self.part:
            self._write(pool)
        self._wait()

    def _wait(self) -> None:
        if self.writing is not None:
            self.writing.result()

    def _write(self, pool: ThreadPoolExecutor) -> None:
        self._wait()  # a part is complete only when those before it are
        self.writing = pool.submit(_write_part, self.folder, self.part, self.held, self.source.name)
        self.part, self.held = self.part + 1, []


def _once(judged: Judged, keys: Met) -> Judged:
    """Return a block in order, the copies of rows that came before among its lost rows; ``keys`` learns the new ones."""
    order = judged.rows["row"].arg_sort()
    is_first, places = keys.add(judged.rows["key"].gather(order).to_list()), order.to_numpy()
    rows = judged.rows[places[is_first]]
    if is_first.all():
        return Judged(judged.size, rows, judged.lost)
    text = pl.struct("messages").struct.json_encode().str.head(EXCERPT)
    copies = judged.rows[places[~is_first]].select("row", pl.lit("duplicate").alias("reason"), text.alias("text"))
    return Judged(judged.size, rows, pl.concat([judged.lost, copies]).sort("row"))


def _up_to(judged: Judged, n: int, *, begins: int) -> Judged:
    """Return a block up to its n-th row that is kept."""
    last = int(judged.rows["row"][n - 1])
    return Judged(last + 1 - begins, *(each.filter(pl.col("row") <= last) for each in (judged.rows, judged.lost)))


def _in_order(pool: ThreadPoolExecutor, blocks: Iterator[Block], source: Source, columnar: bool) -> Iterator[Judged]:
    """Judge blocks side by side and yield them in order; no more are held than there are threads, and one."""
    waiting: deque[Future[Judged]] = deque()
    for block in blocks:
        waiting.append(pool.submit(copy_context().run, judge, block, source, columnar=columnar))
        if len(waiting) > _threads():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write_part(folder: Path, part: int, held: list[Judged], name: str) -> None:
    """Write a part's tables and, last, the record that makes it one."""
    import pyarrow.parquet as pq

    kept = pl.concat([each.rows for each in held]) if held else pl.DataFrame(schema=pl.Schema(ROW))
    lost = pl.concat([each.lost for each in held]) if held else pl.DataFrame(schema=pl.Schema(LOST))
    lost = lost.with_columns(pl.lit(name).alias("source")).select(list(tables.DROPPED))
    for frame, kind in ((kept, "rows"), (lost, "dropped")):
        aside = folder / f".{kind}-{part:05}.aside"
        table = frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        # Parts are read once and removed: a light compression, no statistics, no dictionary of texts that hardly repeat.
        pq.write_table(table, aside, compression="zstd", compression_level=1, row_group_size=GROUP, **_AS_IT_IS)
        aside.replace(folder / f"{kind}-{part:05}.parquet")
    record = {
        "blocks": len(held), "rows": sum(each.size for each in held), "filtered": sum(each.filtered for each in held),
    }  # fmt: skip
    write_json(folder / f"part-{part:05}.json", record)


def _file(path: Path, source: Source) -> Iterator[Block]:
    where = f"sources.{source.name}.path"
    try:
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            raise OSError("not a regular file")
        yield from READERS[ending(path)](path, encoding=source.encoding)
        after = path.stat()
    except OSError as error:
        yield unreadable(path, error)
        return
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        hint = "wait until it is written, then run again"
        raise SourceError("the file changed while it was read", where=where, got=str(path), hint=hint)


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep what is freed, as it does by itself once large blocks were freed; elsewhere do nothing.

    Blocks come and go in pieces of some megabytes, and giving each back to the system and taking it again, page by page, is a
    tenth of the work.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def _threads() -> int:
    return max(2, os.cpu_count() or 2)
