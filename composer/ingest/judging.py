"""What becomes of a block of raw rows: each is read into a conversation, dropped with its reason, or filtered out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from composer import tables
from composer.errors import SourceError
from composer.ingest.columnar import PLAIN, plain_rows
from composer.ingest.files import Block
from composer.ingest.keys import key
from composer.ingest.raw import Broken, Mended, encodable
from composer.ingest.shapes import normalise
from composer.types import Source

EXCERPT = 500  # characters of a dropped row that are kept

ROW: tables.Schema = {
    "row": pl.UInt64,
    "shape": pl.String,
    "messages": pl.List(tables.MESSAGE),
    "asked": pl.UInt32,  # characters of the last question that are the instruction; null: it is the whole first question
    "license": pl.String,
    "key": pl.Binary,  # 16 bytes of the normalised text
    "extras": pl.String,
    "repairs": pl.List(pl.String),
}
"""A row that could be read, by its number in the source."""

_NO_EXTRAS = pl.Series("extras", [None], dtype=pl.String)
_NO_REPAIRS = pl.Series("repairs", [[]], dtype=pl.List(pl.String))

LOST: tables.Schema = {"row": pl.UInt64, "reason": pl.String, "text": pl.String}


@dataclass(frozen=True)
class Judged:
    """A block's rows: those that could be read (ROW), in any order, and those that are dropped (LOST), in order."""

    size: int
    rows: pl.DataFrame
    lost: pl.DataFrame

    @property
    def filtered(self) -> int:
        """How many rows the source does not want."""
        return self.size - len(self.rows) - len(self.lost)

    def shifted(self, n: int) -> Judged:
        """Return the block with its rows numbered from n on."""
        rows, lost = (each.clone().replace_column(0, each["row"] + n) for each in (self.rows, self.lost))
        return Judged(self.size, rows, lost)


def judge(block: Block, source: Source, *, columnar: bool = True) -> Judged:
    """Return what becomes of a block's rows, numbered from zero; plain rows all at once, unless told otherwise."""
    plain = plain_rows(block, source) if columnar else pl.DataFrame(schema=pl.Schema(PLAIN))
    rest = np.ones(block.size, dtype=np.bool_)
    rest[plain["row"].to_numpy()] = False
    which = np.flatnonzero(rest).tolist()
    rows: list[dict[str, Any]] = []
    lost: list[dict[str, Any]] = []
    for number, value in zip(which, block.values(which), strict=True):
        fate = _one(value, source)
        if isinstance(fate, str):
            lost.append({"row": number, "reason": fate, "text": excerpt(value)})
        elif fate is not None:
            rows.append({"row": number, **fate})
    read = pl.DataFrame(rows, schema=pl.Schema(ROW))
    if len(plain):
        beside = [_NO_EXTRAS.new_from_index(0, len(plain)), _NO_REPAIRS.new_from_index(0, len(plain))]
        plain = plain.hstack(beside)
        read = pl.concat([plain, read]) if rows else plain
    return Judged(block.size, read, pl.DataFrame(lost, schema=pl.Schema(LOST)))


def excerpt(value: object) -> str:
    """Return the beginning of what a row holds, as it can be written."""
    if isinstance(value, Mended):
        value = value.value
    if isinstance(value, Broken):
        return _printable(value.text[:EXCERPT])
    try:
        return _printable(json.dumps(value, ensure_ascii=False, default=str)[:EXCERPT])
    except (ValueError, TypeError, RecursionError):  # a row too deep, or keyed by what JSON cannot key by
        return ""


def _one(value: object, source: Source) -> dict[str, Any] | str | None:
    """Return a row's columns, the reason why it is dropped, or None where the source does not want it."""
    repairs: tuple[str, ...] = ()
    if isinstance(value, Mended):
        repairs, value = value.repairs, value.value
    if isinstance(value, Broken):
        return value.reason
    if not isinstance(value, Mapping):
        return "not_an_object"
    if not all(_matches(value.get(column), wanted) for column, wanted in source.where.items()):
        return None
    try:
        shape, row = normalise(value, adapter=source.adapter, columns=source.columns, roles=source.roles)
    except SourceError as error:
        return error.what
    return {
        "shape": shape,
        "messages": row.messages,
        "asked": row.asked,
        "license": _license(value, source),
        "key": key(row.messages, row.extras),
        "extras": row.extras,
        "repairs": [*repairs, *row.repairs],
    }


def _matches(value: object, wanted: str) -> bool:
    return value == wanted or (isinstance(value, (bool, int, float)) and json.dumps(value) == wanted)


def _license(value: Mapping[str, Any], source: Source) -> str:
    if source.license != "from_row":
        return source.license
    word = value.get(source.columns.get("license", "license"))
    return _printable(word) if isinstance(word, str) and word.strip() else "unknown"


def _printable(text: str) -> str:
    return text if encodable(text) else text.encode(errors="replace").decode()
