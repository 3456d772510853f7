"""One source becomes samples: read into conversations, then counted in tokens by the tokenizer that will train on them.

Both steps leave shards that say what became of each row, so that a run that was stopped goes on where it was, and what is
counted is what is written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from composer import tables
from composer.artifact import shard
from composer.conversation import sample_id
from composer.encode import Tokenizer
from composer.errors import SourceError
from composer.ingest.counting import COUNT, Counter
from composer.ingest.judging import EXCERPT
from composer.ingest.reading import read, tally
from composer.ingest.shapes import instruction
from composer.ingest.sink import sink
from composer.progress import bar
from composer.spec import digest
from composer.types import LossOn, Source

SHARD = 4_000  # rows that are counted at a time
PARTS, SHARDS = ".parts", ".shards"
Spread = Callable[[Sequence[str]], None]

KEY: tables.Schema = {"key": pl.Binary}
IS_KEPT = pl.col("reason").is_null()

_COUNTED: tables.Schema = {"sample_id": pl.String, "instruction_id": pl.String, "text": pl.String, **COUNT}


def ingest(
    source: Source, folder: Path, *, tokenizer: Tokenizer, max_length: int, loss_on: LossOn = "all", revision: str = "",
    spread: Spread | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write a source's samples, their keys, instructions and dropped rows into a folder and return what was counted.

    The counts are those of :func:`composer.ingest.reading.read`, less the rows that the template refuses or that have nothing
    to train on, and ``n_tokens`` (at most ``max_length`` a row), ``n_loss_tokens`` (of the answers that ``loss_on`` wants),
    ``truncated``, ``adapted`` (rows that the template took only in another form) and ``not_carried`` (rows of which it leaves
    something out, by kind). ``revision`` is what every row bears as its source's revision. ``spread``, where it is given, has
    the shards whose names it is handed counted by :func:`count_shards` over the same folder.

    Raises
    ------
    SourceError
        Where the source cannot be read, or no row of it is kept.
    """
    parts, shards, used = folder / PARTS, folder / SHARDS, folder / ".used"
    shutil.rmtree(used, ignore_errors=True)
    found = survey(source, parts, shards, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on, spread=spread)
    if not found.stats["samples"]:
        raise _no_rows(source, parts, found.stats)
    _write(found.shards, parts, source, folder, revision=revision)
    parts.rename(used)  # at once, so that a run that dies here finds all parts or none
    shutil.rmtree(used)
    shutil.rmtree(shards)
    return found.stats


@dataclass(frozen=True)
class Survey:
    """What a source comes to: its counts, and what became of each of its rows, on disk."""

    stats: dict[str, Any]
    shards: list[Shard]

    def rows(self) -> Iterator[pl.DataFrame]:
        """Yield the rows that could be read (ROW) with their counts (COUNT), shard by shard."""
        for each in self.shards:
            yield pl.concat([each.rows(), pl.read_parquet(each.counted)], how="horizontal")


def survey(
    source: Source, parts: Path, shards: Path, *, tokenizer: Tokenizer, max_length: int, loss_on: LossOn = "all",
    spread: Spread | None = None,
) -> Survey:  # fmt: skip
    """Read a source and count its tokens into two folders, both of which a later call takes up where this one was stopped."""
    shards.mkdir(parents=True, exist_ok=True)
    found = read(source, parts)
    done = list(_shards(parts, shards))
    left = [each for each in done if not each.counted.exists()]
    if spread is None:
        _count(left, source.name, shards, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on, total=found["samples"])
    elif left:
        spread([each.counted.stem for each in left])
    return Survey(_stats(found, done) if done else {**found, **_NOTHING}, done)


_NOTHING: dict[str, Any] = {"n_tokens": 0, "n_loss_tokens": 0, "truncated": 0, "adapted": 0, "not_carried": {}}


@dataclass(frozen=True)
class Shard:
    """Some rows of a part, and the table of their counts."""

    part: Path
    start: int
    size: int
    counted: Path

    def rows(self) -> pl.DataFrame:
        """Return the rows as they were read."""
        return pl.scan_parquet(self.part).slice(self.start, self.size).collect()


def count_shards(
    source: Source, folder: Path, names: Sequence[str], *, tokenizer: Tokenizer, max_length: int, loss_on: LossOn = "all"
) -> None:
    """Count the tokens of shards of a source that :func:`ingest` has read into a folder; those that are there stay."""
    shards = folder / SHARDS
    left = [each for each in _shards(folder / PARTS, shards) if each.counted.stem in names and not each.counted.exists()]
    # One process each: there are as many workers as there should be.
    _count(left, source.name, shards, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on, processes=1)


def _count(
    shards: list[Shard], name: str, folder: Path, *, tokenizer: Tokenizer, max_length: int, loss_on: LossOn, total: int = 0,
    processes: int | None = None,
) -> None:  # fmt: skip
    left = sum(each.size for each in shards)
    with (
        bar(f"count {name}", total=max(total, left)) as shown,
        Counter(tokenizer, max_length=max_length, loss_on=loss_on, rows=left, processes=processes) as counter,
    ):
        shown.advance(max(total, left) - left)
        for each in shards:
            rows = each.rows()
            frame = pl.concat([_ids(rows), counter.count(rows)], how="horizontal").select(list(_COUNTED))
            shard(folder, each.counted.name, partial(tables.write, frame, schema=_COUNTED))
            shown.advance(each.size)


def _shards(parts: Path, folder: Path) -> Iterator[Shard]:
    for part in sorted(parts.glob("rows-*.parquet")):
        n = int(pl.scan_parquet(part).select(pl.len()).collect().item())
        for start in range(0, n, SHARD):
            yield Shard(part, start, min(SHARD, n - start), folder / f"{part.stem}-{start:06}.parquet")


def _ids(rows: pl.DataFrame) -> pl.DataFrame:
    texts = [instruction(messages, asked) for messages, asked in rows.select("messages", "asked").iter_rows()]
    ids = [sample_id(messages, extras) for messages, extras in rows.select("messages", "extras").iter_rows()]
    known = {text: digest(text) for text in set(texts)}
    return pl.DataFrame({"sample_id": ids, "instruction_id": [known[text] for text in texts], "text": texts})


def _write(shards: list[Shard], parts: Path, source: Source, folder: Path, *, revision: str) -> None:
    shared = {"source": source.name, "domain": source.domain, "role": source.role, "source_revision": revision}
    named = [pl.lit(value).alias(name) for name, value in shared.items()]

    def every() -> Iterator[pl.DataFrame]:
        return (rows.with_columns(named) for rows in Survey({}, shards).rows())

    def kept(schema: tables.Schema) -> Iterator[pl.DataFrame]:
        return (rows.filter(IS_KEPT).select(list(schema)) for rows in every())

    sink(kept(tables.SAMPLE), folder / "samples.parquet", tables.SAMPLE)
    sink(kept(KEY), folder / "keys.parquet", KEY)
    refused = [_refused(rows) for rows in every()]
    lost = [pl.read_parquet(path) for path in sorted(parts.glob("dropped-*.parquet"))]
    sink([pl.concat([*lost, *refused]).sort("row")], folder / "dropped.parquet", tables.DROPPED)
    texts = pl.scan_parquet([each.counted for each in shards]).filter(IS_KEPT).select("instruction_id", "text")
    unique = texts.unique("instruction_id", keep="first", maintain_order=True)
    sink([unique.collect()], folder / "instructions.parquet", tables.INSTRUCTION)


def _refused(rows: pl.DataFrame) -> pl.DataFrame:
    text = pl.struct("messages").struct.json_encode().str.head(EXCERPT)
    return rows.filter(~IS_KEPT).with_columns(text=text).select(list(tables.DROPPED))


def _stats(found: dict[str, Any], shards: list[Shard]) -> dict[str, Any]:
    """Return the counts of what was read, brought up to what was counted."""
    beside = ["shape", "license", "repairs"]
    rows = pl.concat([
        pl.concat([pl.scan_parquet(each.part).select(beside).slice(each.start, each.size), pl.scan_parquet(each.counted)],
                  how="horizontal")
        for each in shards
    ])  # fmt: skip
    kept = rows.filter(IS_KEPT)
    touched = pl.col("repairs").list.len() > 0
    sums = kept.select(
        pl.len().alias("samples"), touched.sum().alias("repaired"),
        # Sums of UInt32 would wrap at four thousand million tokens.
        pl.col("n_tokens", "n_loss_tokens").cast(pl.Int64).sum(), pl.col("truncated", "adapted").sum(),
    ).collect().row(0, named=True)  # fmt: skip
    dropped = {**found["dropped"], **tally(rows.filter(~IS_KEPT), "reason")}
    return {
        "seen": found["seen"],
        "samples": sums["samples"],
        "kept": sums["samples"] - sums["repaired"],
        "repaired": sums["repaired"],
        "filtered": found["filtered"],
        "dropped": dict(sorted(dropped.items())),
        "repairs": tally(kept.filter(touched).select(pl.col("repairs").explode()), "repairs"),
        "shapes": tally(kept, "shape"),
        "licenses": tally(kept, "license"),
        **{name: sums[name] for name in ("n_tokens", "n_loss_tokens", "truncated", "adapted")},
        "not_carried": tally(kept.select(pl.col("not_carried").explode()).drop_nulls(), "not_carried"),
    }


def _no_rows(source: Source, parts: Path, stats: dict[str, Any]) -> SourceError:
    reasons = {**stats["dropped"], **({"filtered": stats["filtered"]} if stats["filtered"] else {})}
    got = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items())) or "an empty source"
    first = pl.scan_parquet(parts / "dropped-*.parquet").select("row", "text").head(1).collect()
    hint = f"row {first['row'][0]} reads {first['text'][0][:120]!r}" if len(first) else "check the file and source.where"
    expected = f"a row of shape {source.adapter}" if source.adapter != "auto" else "a row of a known shape"
    return SourceError("no rows", where=f"sources.{source.name}.path", expected=expected, got=got, hint=hint)
