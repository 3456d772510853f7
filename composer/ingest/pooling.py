"""The sources of a recipe become one table: every conversation once, and no text both trained on and measured.

Where a conversation comes several times, a validation copy stays before a target or replay copy and that before a reference
copy; among equals the first source has it. A domain that brings no validation rows gives some of its own: which ones is
decided by a hash of the seed and the row's id, so that neither the order of rows nor rows added later change the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from composer import tables
from composer.errors import SourceError, SpecError
from composer.ingest.outcomes import EXCERPT
from composer.ingest.sink import sink, slices
from composer.spec import seed_of

PRECEDENCE = {"validation": 0, "target": 1, "replay": 1, "reference": 2}
TRAINED = ("target", "replay")

_INDEX = ("sample_id", "source", "domain", "role", "n_tokens", "n_loss_tokens")


def pool(parts: Sequence[Path], folder: Path, *, holdout: float, seed: int) -> dict[str, Any]:
    """Join ingested folders, in order, into one folder of samples, instructions and dropped rows, and count by domain and role.

    A copy is dropped as ``also_in_validation`` where it would have been trained on and its text is measured, and as
    ``duplicate_across_sources`` otherwise; its ``row`` in the dropped table is its place in its part's samples. A domain with
    target or replay rows and no validation rows gives a share ``holdout`` of them (0 <= holdout < 1), at least one where it
    has two, and never all.

    Raises
    ------
    SourceError
        Where no row is left to train on as a target.
    SpecError
        Where the holdout is not a share below one.
    """
    if not 0 <= holdout < 1:
        raise SpecError(
            "not a share that leaves something to train on", where="holdout", expected="0 <= holdout < 1", got=holdout
        )
    index = _index(parts)
    first = index.sort("rank", "part", "row").unique("sample_id", keep="first", maintain_order=True)
    copies = _copies(index, first)
    kept = _held_out(first, holdout, seed)
    if not (kept["role"] == "target").any():
        hint = "give a source the role target, or lower the holdout"
        raise SourceError(
            "no target rows", where="sources", expected="at least one row to train on", got=_roles(kept), hint=hint
        )
    _write(parts, folder, kept=kept, copies=copies)
    return _stats(kept, copies, n_held_out=int((kept["role"] != kept["given_role"]).sum()))


def _index(parts: Sequence[Path]) -> pl.DataFrame:
    """Return the light columns of all samples, with the part and the row in which each stands."""
    frames = [
        pl.scan_parquet(part / "samples.parquet").select(_INDEX).with_row_index("row").with_columns(part=pl.lit(i, pl.UInt32))
        for i, part in enumerate(parts)
    ]
    if not frames:
        raise SourceError("no sources to pool", where="sources", hint="name at least one source in the recipe")
    rank = pl.col("role").replace_strict(PRECEDENCE, return_dtype=pl.UInt8)
    return pl.concat(frames).collect().with_columns(rank=rank, given_role="role")


def _copies(index: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    kept = first.select("sample_id", kept_role="role")
    leaks = (pl.col("kept_role") == "validation") & pl.col("role").is_in(TRAINED)
    reason = pl.when(leaks).then(pl.lit("also_in_validation")).otherwise(pl.lit("duplicate_across_sources"))
    copies = index.join(first, on=["part", "row"], how="anti").join(kept, on="sample_id", how="left")
    return copies.with_columns(reason=reason).sort("part", "row")


def _held_out(first: pl.DataFrame, holdout: float, seed: int) -> pl.DataFrame:
    """Return the rows with the role validation for those that are held out."""
    measured = first.filter(pl.col("role") == "validation")["domain"].unique()
    own = first.filter(pl.col("role").is_in(TRAINED) & ~pl.col("domain").is_in(measured.implode()))
    if holdout == 0:
        own = own.clear()
    draw = own["sample_id"].map_elements(lambda word: seed_of(seed, "holdout", word) / 2**31, return_dtype=pl.Float64)
    place = pl.struct("draw", "sample_id").rank("ordinal").over("domain")
    own = own.with_columns(draw=draw).with_columns(place=place, n=pl.len().over("domain"))
    chosen = own.filter((pl.col("draw") < holdout) | (pl.col("place") == 1)).filter(pl.col("place") < pl.col("n"))
    is_held = pl.col("sample_id").is_in(chosen["sample_id"].implode())
    return first.with_columns(role=pl.when(is_held).then(pl.lit("validation")).otherwise("role"))


def _write(parts: Sequence[Path], folder: Path, *, kept: pl.DataFrame, copies: pl.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sink(_samples(parts, kept), folder / "samples.parquet", tables.SAMPLE)
    sink(_dropped(parts, copies), folder / "dropped.parquet", tables.DROPPED)
    used = pl.scan_parquet(folder / "samples.parquet").select("instruction_id").unique()
    instructions = pl.concat([pl.scan_parquet(part / "instructions.parquet") for part in parts])
    unique = instructions.unique("instruction_id", keep="first", maintain_order=True)
    once = unique.join(used, on="instruction_id", how="semi", maintain_order="left")
    sink([once.collect()], folder / "instructions.parquet", tables.INSTRUCTION)


def _samples(parts: Sequence[Path], kept: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for i, part in enumerate(parts):
        mine = kept.filter(pl.col("part") == i).select("row", "role")
        for rows in slices(part / "samples.parquet"):
            joined = rows.drop("role").join(mine, on="row", maintain_order="left")
            yield joined.select(list(tables.SAMPLE))


def _dropped(parts: Sequence[Path], copies: pl.DataFrame) -> Iterator[pl.DataFrame]:
    yield from (pl.read_parquet(part / "dropped.parquet") for part in parts)
    excerpt = pl.struct("messages").struct.json_encode().str.head(EXCERPT)
    for i, part in enumerate(parts):
        mine = copies.filter(pl.col("part") == i).select("row", "reason")
        for rows in slices(part / "samples.parquet"):
            joined = rows.join(mine, on="row", maintain_order="left")
            yield joined.select("source", pl.col("row").cast(pl.UInt64), "reason", text=excerpt)


def _stats(kept: pl.DataFrame, copies: pl.DataFrame, *, n_held_out: int) -> dict[str, Any]:
    counts = (
        pl.len().cast(pl.Int64).alias("samples"),
        pl.col("n_tokens").cast(pl.Int64).sum().alias("tokens"),
        pl.col("n_loss_tokens").cast(pl.Int64).sum().alias("loss_tokens"),
    )
    domains: dict[str, dict[str, dict[str, int]]] = {}
    for row in kept.group_by("domain", "role").agg(*counts).sort("domain", "role").iter_rows(named=True):
        domains.setdefault(row.pop("domain"), {})[row.pop("role")] = row
    duplicates: dict[str, dict[str, int]] = {}
    for source, reason, n in copies.group_by("source", "reason").len().sort("source", "reason").iter_rows():
        duplicates.setdefault(source, {})[reason] = n
    return {**kept.select(*counts).row(0, named=True), "held_out": n_held_out, "domains": domains, "duplicates": duplicates}


def _roles(kept: pl.DataFrame) -> str:
    return ", ".join(f"{n} {role}" for role, n in kept.group_by("role").len().sort("role").iter_rows()) or "no rows"
