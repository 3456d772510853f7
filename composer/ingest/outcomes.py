"""What becomes of a batch of raw rows: each is kept with its token counts, dropped with its reason, or filtered out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from composer import tables
from composer.encode import Encoding, Tokenizer, encode
from composer.errors import SourceError
from composer.ingest.files import Broken, encodable
from composer.ingest.shapes import Row, normalise
from composer.types import Source

EXCERPT = 500  # characters of a dropped row that are kept
FILTERED = "filtered"

OUTCOME: tables.Schema = {
    "row": pl.UInt64,
    "reason": pl.String,  # null for a kept row
    "text": pl.String,  # of a dropped row
    "shape": pl.String,
    "instruction": pl.String,
    "truncated": pl.Boolean,
    **{name: dtype for name, dtype in tables.SAMPLE.items() if name not in ("source", "domain", "role")},
}


def outcomes(
    batch: Sequence[tuple[int, object]],
    *,
    source: Source,
    kept: Collection[str],
    tokenizer: Tokenizer,
    max_length: int,
) -> pl.DataFrame:
    """Return one OUTCOME row per numbered raw row, in order, up to the last that ``source.limit`` wants.

    ``kept`` are the sample ids of earlier batches; a duplicate is a copy of a row that was kept, so that a copy of a dropped
    row is dropped for the same reason.
    """
    judged = [_judge(value, source) for _, value in batch]
    rows = {found[1].sample_id: found[1] for found in judged if not isinstance(found, str)}
    new = {sample_id: row.messages for sample_id, row in rows.items() if sample_id not in kept}
    # One token more than is kept tells a row that is cut from one that just fits.
    encodings = dict(zip(new, encode(tokenizer, list(new.values()), max_length=max_length + 1), strict=True))
    left = len(batch) if source.limit is None else source.limit - len(kept)
    taken: set[str] = set()
    records: list[dict[str, Any]] = []
    for (number, value), found in zip(batch, judged, strict=True):
        if len(taken) == left:
            break
        if isinstance(found, str):
            fate: dict[str, Any] | str = found
        elif (sample_id := found[1].sample_id) in kept or sample_id in taken:
            fate = "duplicate"
        else:
            fate = _counts(encodings[sample_id], max_length)
        if isinstance(fate, str):
            text = None if fate == FILTERED else _excerpt(value)
            records.append({"row": number, "reason": fate, "text": text})
        else:
            taken.add(sample_id)
            records.append({"row": number, **_columns(*found), **fate, "license": _license(value, source)})
    return pl.DataFrame(records, schema=pl.Schema(OUTCOME))


def _judge(value: object, source: Source) -> tuple[str, Row] | str:
    """Return a row's shape and conversation, or the reason why it has none."""
    if isinstance(value, Broken):
        return value.reason
    if not isinstance(value, Mapping):
        return "not_an_object"
    if not all(_matches(value.get(column), wanted) for column, wanted in source.where.items()):
        return FILTERED
    try:
        return normalise(value, adapter=source.adapter)
    except SourceError as error:
        return error.what


def _matches(value: object, wanted: str) -> bool:
    return value == wanted or (isinstance(value, (bool, int, float)) and json.dumps(value) == wanted)


def _counts(encoding: Encoding | str, max_length: int) -> dict[str, Any] | str:
    if isinstance(encoding, str):
        return encoding
    cut = Encoding(encoding.ids[:max_length], encoding.trained[:max_length])
    if not cut.n_loss_tokens:
        return "no_loss_tokens"
    return {
        "n_tokens": len(cut.ids),
        "n_loss_tokens": cut.n_loss_tokens,
        "truncated": len(encoding.ids) > max_length,
    }


def _columns(shape: str, row: Row) -> dict[str, Any]:
    return {
        "shape": shape,
        "sample_id": row.sample_id,
        "instruction_id": row.instruction_id,
        "instruction": row.instruction,
        "messages": row.messages,
    }


def _excerpt(value: object) -> str:
    if isinstance(value, Broken):
        return _printable(value.text[:EXCERPT])
    try:
        return _printable(json.dumps(value, ensure_ascii=False, default=str)[:EXCERPT])
    except (ValueError, TypeError, RecursionError):  # a row too deep, or keyed by what JSON cannot key by
        return ""


def _license(value: object, source: Source) -> str:
    if source.license != "from_row":
        return source.license
    word = value.get("license") if isinstance(value, Mapping) else None
    return _printable(word) if isinstance(word, str) and word.strip() else "unknown"


def _printable(text: str) -> str:
    return text if encodable(text) else text.encode(errors="replace").decode()
