"""Plain rows, a block at a time: what most rows are, converted column by column at a tenth of the cost of one by one.

A row is plain where the row-by-row path (:mod:`composer.ingest.shapes`) would only copy its texts: known roles, a question, an
answer that says something, nothing that needs a repair and nothing beside the texts. Whatever is not surely plain is left to
that path, and both must give the same row: a property test holds them to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer import tables
from composer.ingest.columns import Columns, Mask
from composer.ingest.files import Block
from composer.ingest.keys import ROLES, flat_keys
from composer.ingest.tabular import BESIDE, TALK, tables_of
from composer.ingest.texts import Texts, arrow
from composer.types import Source

PLAIN: tables.Schema = {
    "row": pl.UInt64,
    "shape": pl.String,
    "messages": pl.List(tables.MESSAGE),
    "asked": pl.UInt32,
    "license": pl.String,
    "key": pl.Binary,
}
"""A row's place in its block, and what the row-by-row path would have made of it."""

_ASKED = {  # shape: what is asked, what it is about, what is answered
    "alpaca": ("instruction", "input", "output"),
    "prompt_completion": ("prompt", None, "completion"),
    "question_answer": ("question", None, "answer"),
}
_ORDER = ("messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "text")
_PLAIN_TEXT = pl.CompatLevel.oldest()
_ARROW_WORDS = pl.Series(ROLES).to_arrow(compat_level=_PLAIN_TEXT)
_CODE = {word: code for code, word in enumerate(ROLES)}


def plain_rows(block: Block, source: Source) -> pl.DataFrame:
    """Return the PLAIN rows of a block, in any order; the rows that are missing are for the row-by-row path."""
    import pyarrow as pa

    if source.columns or source.roles:
        return pl.DataFrame(schema=pl.Schema(PLAIN))
    found = list(tables_of(block, source))
    if not found:
        return pl.DataFrame(schema=pl.Schema(PLAIN))
    places = np.concatenate([np.arange(start, start + table.num_rows, dtype=np.uint64) for start, table in found])
    return _plain(pa.concat_tables([table for _, table in found]).combine_chunks(), places, source)


def _plain(table: Any, places: NDArray[np.uint64], source: Source) -> pl.DataFrame:
    columns = Columns(table)
    free = _wanted(columns, source)  # rows that no earlier shape has
    parts = []
    for shape in _ORDER:
        own = _own(shape)
        if all(name in columns for name in own) and source.adapter in ("auto", shape):
            is_it = np.logical_and.reduce([free, *(columns.valid(name) for name in own)])
            make = _talk if shape in TALK else _answered if shape in _ASKED else _documents
            parts += [made for made in [make(columns, is_it, shape)] if made is not None]
        if source.adapter == "auto":
            for name in (*own, "response", "query") if shape in _ASKED else own:
                free &= ~columns.valid(name)
    if not parts:
        return pl.DataFrame(schema=pl.Schema(PLAIN))
    at = np.concatenate([part.at for part in parts])
    *said, key = pl.concat([part.frame for part in parts]).get_columns()
    return pl.DataFrame([pl.Series("row", places[at]), *said, _license(columns, source, at), key])


def _wanted(columns: Columns, source: Source) -> Mask:
    """Return whether a row is what the source wants and has nothing but texts: no tools, no system text, no history."""
    wanted = np.ones(columns.n, dtype=np.bool_)
    for name in BESIDE:
        wanted &= ~columns.valid(name)
    for name in ("system", "history"):
        if name in columns and columns.valid(name).any():
            wanted &= columns.lengths(name) == 0
    if source.license == "from_row" and "license" in columns:
        wanted &= ~columns.valid("license") | columns.says("license")
    for column, value in source.where.items():
        wanted &= _equals(columns, column, value)
    return wanted


def _equals(columns: Columns, name: str, value: str) -> Mask:
    if name not in columns:
        return np.zeros(columns.n, dtype=np.bool_)
    return np.asarray((columns.series(name) == value).fill_null(False).to_numpy())


def _own(shape: str) -> tuple[str, ...]:
    if shape in TALK:
        return (TALK[shape][0],)
    if shape not in _ASKED:
        return (shape,)
    asked, _, answered = _ASKED[shape]
    return asked, answered


def _license(columns: Columns, source: Source, at: NDArray[np.int64]) -> pl.Series:
    if source.license == "from_row" and "license" in columns:
        return columns.series("license").gather(at).fill_null("unknown").alias("license")
    word = "unknown" if source.license == "from_row" else source.license
    return pl.Series("license", [word]).new_from_index(0, len(at))


@dataclass(frozen=True)
class _Part:
    """Rows of one shape: their places in the table, and their columns."""

    at: NDArray[np.int64]
    frame: pl.DataFrame


def _answered(columns: Columns, is_it: Mask, shape: str) -> _Part | None:
    """Return the rows of one question and one answer."""
    asked, given, answered = _ASKED[shape]
    is_it = is_it & columns.says(asked) & columns.says(answered)
    if shape != "prompt_completion":
        is_it &= ~columns.valid("context")
    if has_given := given is not None and given in columns:
        about = columns.lengths(given) > 0
        is_it &= ~about | columns.says(given)
    at = np.flatnonzero(is_it)
    if not len(at):
        return None
    prompt = columns.series(asked).gather(at)
    n_asked = pl.Series("asked", [None], dtype=pl.UInt32).new_from_index(0, len(at))
    if has_given and given is not None and len(which := np.flatnonzero(about[at])):
        instruction = prompt.gather(which)
        n_asked = n_asked.scatter(which, instruction.str.len_chars())
        prompt = prompt.scatter(which, instruction + "\n\n" + columns.series(given).gather(at[which]))
    n = len(at)
    both = pl.concat([prompt, columns.series(answered).gather(at).alias(prompt.name)])
    texts = Texts.of(both.gather(np.arange(2 * n).reshape(2, -1).T.ravel()))
    codes = np.tile([_CODE["user"], _CODE["assistant"]], n)
    return _part(at, shape, texts, codes, np.full(n, 2), n_asked=n_asked)


def _documents(columns: Columns, is_it: Mask, shape: str) -> _Part | None:
    """Return the rows that are one plain text."""
    at = np.flatnonzero(is_it & columns.says(shape))
    if not len(at):
        return None
    texts = Texts.of(columns.array(shape).take(arrow(at)))
    return _part(at, shape, texts, np.full(len(at), _CODE["assistant"]), np.ones(len(at), dtype=np.int64))


def _talk(columns: Columns, is_it: Mask, shape: str) -> _Part | None:
    """Return the conversations that begin with a question, after a system turn or none, and end with an answer."""
    import pyarrow.compute as pc

    column, role, content, words = TALK[shape]
    lengths = columns.lengths(column)
    at = np.flatnonzero(is_it & (lengths >= 2))
    if not len(at):
        return None
    turns, lengths = columns.array(column).take(arrow(at)).flatten(), lengths[at]
    speakers = pl.Series(list(words)).to_arrow(compat_level=_PLAIN_TEXT)
    word = pl.Series(pc.fill_null(pc.index_in(turns.field(role), value_set=speakers), len(words)))
    known = np.array([*(_CODE[each] for each in words.values()), -1])
    codes = known[word.to_numpy()]
    codes = np.where(pl.Series(turns.field(content).is_null()).to_numpy(), -1, codes)
    texts = Texts.of(turns.field(content))
    good = _is_conversation(codes, texts, lengths)
    if not good.all():
        turn_is_good = np.repeat(good, lengths)
        texts = Texts.of(texts.array.filter(arrow(turn_is_good)))
        at, codes, lengths = at[good], codes[turn_is_good], lengths[good]
    return _part(at, shape, texts, codes, lengths) if len(at) else None


def _is_conversation(codes: NDArray[np.int64], texts: Texts, lengths: NDArray[np.int64]) -> Mask:
    ends = np.cumsum(lengths)
    begins = ends - lengths
    asks = np.minimum(begins + (codes[begins] == _CODE["system"]), ends - 1)
    all_known = np.minimum.reduceat(codes, begins) >= 0
    spoken = (codes[asks] == _CODE["user"]) & (codes[ends - 1] == _CODE["assistant"])
    return np.asarray(all_known & spoken & texts.says(asks) & texts.says(ends - 1))


def _part(
    at: NDArray[np.int64], shape: str, texts: Texts, codes: NDArray[np.int64], lengths: NDArray[np.int64],
    *, n_asked: pl.Series | None = None,
) -> _Part:  # fmt: skip
    """Return rows with their messages and keys, without those that a repair awaits."""
    import pyarrow as pa

    keys, clean = flat_keys(texts, codes, lengths)
    turns = pa.StructArray.from_arrays([_ARROW_WORDS.take(arrow(codes)), texts.array], ["role", "content"])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    nothing = pl.Series("asked", [None], dtype=pl.UInt32).new_from_index(0, len(at))
    frame = pl.DataFrame({
        "shape": pl.Series([shape]).new_from_index(0, len(at)),
        "messages": pl.Series(pa.LargeListArray.from_arrays(arrow(offsets), turns)),
        "asked": nothing if n_asked is None else n_asked,
        "key": pl.Series(keys, dtype=pl.Binary),
    })  # fmt: skip
    if clean.all():
        return _Part(at, frame)
    return _Part(at[clean], frame[np.flatnonzero(clean)])
