"""The sources of a recipe become one table: every conversation once, and no text both trained on and measured.

Where a conversation comes several times, one copy of it stays (``composer.dedup`` says which, and what a copy is), and a text
that is measured is never trained on. A domain that brings no validation rows gives some of its own: which ones is decided by a
hash of the seed and the row's id, so that neither the order of rows nor rows added later change the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer import tables
from composer.decontaminate import Decontaminate, find_contamination
from composer.dedup import Copies, Dedup, Part, describe, find_copies
from composer.dedup.base import Embed
from composer.dedup.copies import LEAK
from composer.dedup.exact import ExactDedup
from composer.dedup.rows import TRAINED
from composer.errors import SourceError, SpecError
from composer.ingest.judging import EXCERPT
from composer.ingest.sink import sink, slices
from composer.spec import seed_of

_INDEX = ("sample_id", "domain", "n_tokens", "n_loss_tokens")
_STAYS = pl.col("reason").is_null()


def pool(
    parts: Sequence[Path],
    folder: Path,
    *,
    holdout: float,
    seed: int,
    dedup: Dedup | None = None,
    decontaminate: Decontaminate | None = None,
    embed: Embed | None = None,
) -> dict[str, Any]:
    """Join ingested folders, in order, into one folder of samples, instructions and dropped rows, and count by domain and role.

    A copy is dropped as ``also_in_validation`` where it would have been trained on and its text is measured, and else under the
    reason of the way in which it was found; a row that holds an evaluation text is dropped as ``contaminated``. The ``row`` of
    such a row in the dropped table is its place in its part's samples. A domain with target or replay rows and no validation
    rows gives a share ``holdout`` of them (0 <= holdout < 1), at least one where it has two, and never all.

    Returns
    -------
    ``samples``, ``tokens``, ``loss_tokens``, ``held_out`` and ``domains``, all of what is kept; ``duplicates``, how many rows
    of which source were dropped here, by reason; ``dedup``, the report of :func:`composer.dedup.describe`; and
    ``decontamination``, that of :func:`composer.decontaminate.find_contamination` (empty where none was asked for).

    Raises
    ------
    SourceError
        Where no row is left to train on as a target.
    SpecError
        Where the holdout is not a share below one, or ``dedup`` asks for what is not there.
    """
    _check(parts, holdout)
    dedup = ExactDedup() if dedup is None else dedup
    given = [_part(path) for path in parts]
    copies = find_copies(given, dedup=dedup, embed=embed)
    index = copies.fates.hstack(_light_columns(parts)).with_columns(given_role="role")
    index, contamination = _without_tainted(index, given, decontaminate)
    index = _held_out(index, holdout, seed)
    index = _dropped_where(index, _late_leaks(index, copies, dedup, embed), LEAK)
    kept, lost = index.filter(_STAYS), index.filter(~_STAYS)
    if not (kept["role"] == "target").any():
        hint = "give a source the role target, or lower the holdout"
        raise SourceError("no target rows", where="sources", expected="a row to train on", got=_roles(kept), hint=hint)
    _write(parts, folder, kept=kept, lost=lost)
    return {**_stats(kept, lost), "dedup": describe(index, given, dedup=dedup), "decontamination": contamination}


def _check(parts: Sequence[Path], holdout: float) -> None:
    if not 0 <= holdout < 1:
        hint = "leave something to train on"
        raise SpecError("not a share below one", where="holdout", expected="0 <= holdout < 1", got=holdout, hint=hint)
    if not parts:
        raise SourceError("no sources to pool", where="sources", hint="name at least one source in the recipe")


def _part(folder: Path) -> Part:
    """Return an ingested folder as a part; the name and role of its source stand in its rows."""
    samples = folder / "samples.parquet"
    first = pl.scan_parquet(samples).select("source", "role").head(1).collect()
    if not len(first):
        return Part(source=folder.name, role="target", files=(samples,), keyed=(folder / "keys.parquet",))
    source, role = first.row(0)
    return Part(source=source, role=role, files=(samples,), keyed=(folder / "keys.parquet",))


def _light_columns(parts: Sequence[Path]) -> pl.DataFrame:
    return pl.concat([pl.scan_parquet(part / "samples.parquet").select(_INDEX) for part in parts]).collect()


def _without_tainted(
    index: pl.DataFrame, given: Sequence[Part], spec: Decontaminate | None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return the index with contaminated rows dropped, where that is wanted, and the report on them."""
    if spec is None:
        return index, {}
    found = find_contamination(given, spec=spec, among=index.select(_STAYS).to_series().to_numpy())
    return (_dropped_where(index, found.mask, "contaminated") if spec.action == "drop" else index), found.report


def _dropped_where(index: pl.DataFrame, mask: NDArray[np.bool_], reason: str) -> pl.DataFrame:
    if not mask.any():
        return index
    return index.with_columns(reason=pl.when(pl.Series(mask)).then(pl.lit(reason)).otherwise("reason"))


def _held_out(index: pl.DataFrame, holdout: float, seed: int) -> pl.DataFrame:
    """Return the rows with the role validation for those that are held out.

    A near copy that its source took back is not measured: its original may be trained on.
    """
    measured = index.filter(_STAYS & (pl.col("role") == "validation"))["domain"].unique()
    is_own = pl.col("role").is_in(TRAINED) & ~pl.col("domain").is_in(measured.implode())
    own = index.filter(_STAYS & is_own & ~pl.col("beside"))
    if holdout == 0:
        own = own.clear()
    draw = own["sample_id"].map_elements(lambda word: seed_of(seed, "holdout", word) / 2**31, return_dtype=pl.Float64)
    place = pl.struct("draw", "sample_id").rank("ordinal").over("domain")
    own = own.with_columns(draw=draw).with_columns(place=place, n=pl.len().over("domain"))
    chosen = own.filter((pl.col("draw") < holdout) | (pl.col("place") == 1)).filter(pl.col("place") < pl.col("n"))
    is_held = _STAYS & pl.col("sample_id").is_in(chosen["sample_id"].implode())
    return index.with_columns(role=pl.when(is_held).then(pl.lit("validation")).otherwise("role"))


def _late_leaks(index: pl.DataFrame, copies: Copies, dedup: Dedup, embed: Embed | None) -> NDArray[np.bool_]:
    """Return which near copies that their sources took back are copies of rows that were held out after that."""
    beside = index.select(_STAYS & pl.col("beside")).to_series().to_numpy()
    held = index.select(_STAYS & (pl.col("role") != pl.col("given_role"))).to_series().to_numpy()
    if not beside.any() or not held.any():
        return np.zeros(len(index), dtype=np.bool_)
    # All rows once more, those held out before all others: some embedders fit their space to the texts they are given.
    rank = np.argsort(np.lexsort((copies.rows.rank, ~held)))
    rows = replace(copies.rows, rank=rank, fixed=copies.rows.fixed | held)
    return np.asarray(beside & held[dedup.originals(rows, embed=embed)[1]])


def _write(parts: Sequence[Path], folder: Path, *, kept: pl.DataFrame, lost: pl.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sink(_samples(parts, kept), folder / "samples.parquet", tables.SAMPLE)
    sink(_dropped(parts, lost), folder / "dropped.parquet", tables.DROPPED)
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


def _dropped(parts: Sequence[Path], lost: pl.DataFrame) -> Iterator[pl.DataFrame]:
    yield from (pl.read_parquet(part / "dropped.parquet") for part in parts)
    excerpt = pl.struct("messages").struct.json_encode().str.head(EXCERPT)
    for i, part in enumerate(parts):
        mine = lost.filter(pl.col("part") == i).select("row", "reason")
        for rows in slices(part / "samples.parquet"):
            joined = rows.join(mine, on="row", maintain_order="left")
            yield joined.select("source", pl.col("row").cast(pl.UInt64), "reason", text=excerpt)


def _stats(kept: pl.DataFrame, lost: pl.DataFrame) -> dict[str, Any]:
    counts = (
        pl.len().cast(pl.Int64).alias("samples"),
        pl.col("n_tokens").cast(pl.Int64).sum().alias("tokens"),
        pl.col("n_loss_tokens").cast(pl.Int64).sum().alias("loss_tokens"),
    )
    domains: dict[str, dict[str, dict[str, int]]] = {}
    for row in kept.group_by("domain", "role").agg(*counts).sort("domain", "role").iter_rows(named=True):
        domains.setdefault(row.pop("domain"), {})[row.pop("role")] = row
    duplicates: dict[str, dict[str, int]] = {}
    for source, reason, n in lost.group_by("source", "reason").len().sort("source", "reason").iter_rows():
        duplicates.setdefault(source, {})[reason] = n
    held_out = int((kept["role"] != kept["given_role"]).sum())
    return {**kept.select(*counts).row(0, named=True), "held_out": held_out, "domains": domains, "duplicates": duplicates}


def _roles(kept: pl.DataFrame) -> str:
    return ", ".join(f"{n} {role}" for role, n in kept.group_by("role").len().sort("role").iter_rows()) or "no rows"
