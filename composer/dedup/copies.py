"""Copies among the sources of a recipe: which row stays, which goes and why, and what each source loses by it.

Three rules, in this order. What is measured stays, and a row to train on that is a copy of it goes. Of other copies the one
stays that ``keep`` says. And a source that would keep less than its floor takes rows back, its first ones first: an exact copy
in the place of its original, so that every conversation is there once, a near copy beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.dedup.base import Dedup, Embed
from composer.dedup.rows import PRECEDENCE, TRAINED, Part, Rows, Texts, joined
from composer.errors import SpecError, nearest
from composer.tables import Schema

LEAK = "also_in_validation"

FATE: Schema = {
    "part": pl.UInt32,
    "row": pl.UInt32,  # place in the part
    "source": pl.String,
    "role": pl.String,
    "reason": pl.String,  # null for a row that stays
    "of": pl.UInt32,  # the part of the original of a row that goes
    "taken_back": pl.Boolean,  # stays by the floor of its source
    "beside": pl.Boolean,  # stays so beside the original of which it is a near copy
}


@dataclass(frozen=True)
class Copies:
    """What becomes of every row (a FATE table, part by part) and the rows as they were compared."""

    fates: pl.DataFrame
    rows: Rows


def find_copies(parts: Sequence[Part], *, dedup: Dedup, embed: Embed | None = None) -> Copies:
    """Compare the rows of all parts, which stand in the recipe's order.

    Raises
    ------
    SpecError
        Where ``keep`` names a source that is not among the parts, or an embedder is missing.
    """
    keys = [part.keys() for part in parts]
    index = pl.concat([_index(i, part, key) for i, (part, key) in enumerate(zip(parts, keys, strict=True))] or [_INDEX])
    texts = joined(parts)
    is_measured = (index["role"] == "validation").to_numpy()
    rows = Rows(key=index["key"], rank=_rank(index, parts, dedup, texts), fixed=is_measured, texts=texts)
    exact, original = dedup.originals(rows, embed=embed)
    owners = _Owners(index, exact=exact, original=original)
    wanted = {i: max(1, math.ceil(dedup.floor * len(key))) if len(key) else 0 for i, key in enumerate(keys)}
    owners.take_back(wanted)
    return Copies(_fates(index, owners, dedup.reason), rows)


_INDEX = pl.DataFrame(schema={"row": pl.UInt32, "key": pl.Binary, "part": pl.UInt32, "source": pl.String, "role": pl.String})


def _index(number: int, part: Part, key: pl.Series) -> pl.DataFrame:
    frame = pl.DataFrame({"key": key}, schema={"key": pl.Binary}).with_row_index("row")
    return frame.with_columns(part=pl.lit(number, pl.UInt32), source=pl.lit(part.source), role=pl.lit(part.role))


def _rank(index: pl.DataFrame, parts: Sequence[Part], dedup: Dedup, texts: Texts) -> NDArray[np.int64]:
    """Return each row's place in the order of the rule."""
    measured_first = pl.col("role") != "validation"
    by: list[pl.Expr] = []
    if dedup.keep == "precedence":
        by = [pl.col("role").replace_strict(PRECEDENCE, return_dtype=pl.UInt8)]
    elif dedup.keep == "longest":
        lengths = [each.str.len_chars() for each in texts()]
        index = index.with_columns(length=pl.concat(lengths) if lengths else pl.Series([], dtype=pl.UInt32))
        by = [-pl.col("length").cast(pl.Int64)]
    elif not isinstance(dedup.keep, str):
        names = [part.source for part in parts]
        if unknown := [name for name in dedup.keep if name not in names]:
            raise SpecError("no such source", where="dedup.keep", got=unknown[0], hint=nearest(unknown[0], names))
        places = {name: i for i, name in enumerate(dedup.keep)}
        by = [pl.col("source").replace_strict(places, default=len(places), return_dtype=pl.UInt32)]
    order = index.select(pl.arg_sort_by(measured_first, *by, "part", "row")).to_series().to_numpy()
    rank = np.empty(len(index), dtype=np.int64)
    rank[order] = np.arange(len(index))
    return rank


class _Owners:
    """Who holds each text: the row that stands for all rows of one key, or none where the text itself is a copy."""

    def __init__(self, index: pl.DataFrame, *, exact: NDArray[np.int64], original: NDArray[np.int64]) -> None:
        self.part = index["part"].to_numpy()
        self.importance = index["role"].replace_strict(PRECEDENCE, return_dtype=pl.Int64).to_numpy()
        self.text, self.original = exact, original
        self.holder = np.where(original == np.arange(len(index)), original, -1)  # by the number of the text
        self.is_trained = index["role"].is_in(TRAINED).to_numpy()
        self.is_leak = (
            self.is_trained & (self.importance[original] == PRECEDENCE["validation"]) if len(index) else self.is_trained
        )
        self.taken_back = np.zeros(len(index), dtype=np.bool_)
        self.beside = np.zeros(len(index), dtype=np.bool_)  # by the number of the text

    @property
    def stays(self) -> NDArray[np.bool_]:
        """Whether each row stays."""
        return np.asarray(self.holder[self.text] == np.arange(len(self.text)))

    def take_back(self, wanted: dict[int, int]) -> None:
        """Let each part below its wanted number of rows take back its first rows, as far as no rule forbids it."""
        n_kept = np.bincount(self.part[self.stays], minlength=len(wanted))
        for part, least in wanted.items():
            if n_kept[part] >= least:
                continue
            for row in np.flatnonzero((self.part == part) & ~self.stays).tolist():
                if n_kept[part] >= least:
                    break
                holder = int(self.holder[self.text[row]])
                if not self._may_take(row, holder, n_kept, wanted):
                    continue
                if holder >= 0:
                    n_kept[self.part[holder]] -= 1
                else:
                    self.beside[self.text[row]] = True
                self.holder[self.text[row]] = row
                self.taken_back[row] = True
                n_kept[part] += 1

    def _may_take(self, row: int, holder: int, n_kept: NDArray[np.int64], wanted: dict[int, int]) -> bool:
        other = holder if holder >= 0 else int(self.original[row])
        if self.importance[row] > self.importance[other]:
            return False  # what is trained on gives nothing to references, what is measured nothing to either
        giver = int(self.part[holder])
        return holder < 0 or (giver != self.part[row] and n_kept[giver] > wanted[giver])


def _fates(index: pl.DataFrame, owners: _Owners, alike: str) -> pl.DataFrame:
    own = owners.holder[owners.text]
    is_exact = own >= 0  # a row of the very text stays
    stands = np.where(is_exact, own, owners.holder[owners.text[owners.original]])
    same_part = owners.part[stands] == owners.part if len(index) else np.zeros(0, dtype=np.bool_)
    kinds = [owners.stays, owners.is_leak, is_exact & same_part, is_exact]
    reason = np.select(kinds, ["", LEAK, "duplicate", "duplicate_across_sources"], default=alike)
    return index.select(
        "part", "row", "source", "role",
        reason=pl.Series(reason, dtype=pl.String).replace("", None),
        of=pl.Series(owners.part[stands] if len(index) else [], dtype=pl.UInt32),
        taken_back=pl.Series(owners.taken_back & owners.stays),
        beside=pl.Series(owners.beside[owners.text] & owners.stays),
    ).with_columns(of=pl.when(pl.col("reason").is_not_null()).then("of"))  # fmt: skip


class _Loss(NamedTuple):
    source: str
    reason: str
    of: int
    n: int


def describe(fates: pl.DataFrame, parts: Sequence[Part], *, dedup: Dedup) -> dict[str, Any]:
    """Return the report of a FATE table as plain JSON values.

    Returns
    -------
    ``method`` and ``keep`` as asked; ``sources``, by name: ``rows = kept + sum(dropped)``, ``dropped`` by reason,
    ``copies_of`` (where the originals of what was dropped lie, by source), ``taken_back`` by the floor; and ``emptied``, the
    names of sources that had rows and keep none.
    """
    sources: dict[str, dict[str, Any]] = {}
    for part in parts:
        sources.setdefault(part.source, {"rows": 0, "kept": 0, "dropped": {}, "copies_of": {}, "taken_back": 0})
    totals = fates.group_by("source").agg(
        rows=pl.len(),
        kept=pl.col("reason").is_null().sum(),
        taken_back=(pl.col("taken_back") & pl.col("reason").is_null()).sum(),
    )
    for row in totals.iter_rows(named=True):
        sources[row.pop("source")].update(row)
    lost = fates.filter(pl.col("reason").is_not_null()).group_by("source", "reason", "of").len().sort("source", "reason", "of")
    for loss in map(_Loss._make, lost.iter_rows()):
        found = sources[loss.source]
        found["dropped"][loss.reason] = found["dropped"].get(loss.reason, 0) + loss.n
        if loss.of is not None:
            origin = parts[loss.of].source
            found["copies_of"][origin] = found["copies_of"].get(origin, 0) + loss.n
    keep = dedup.keep if isinstance(dedup.keep, str) else list(dedup.keep)
    emptied = [name for name, found in sources.items() if found["rows"] and not found["kept"]]
    return {"method": dedup.name, "keep": keep, "sources": sources, "emptied": emptied}
