"""Plain rows, a block at a time: what most rows are, converted column by column at a tenth of the cost of one by one.

A row is plain where the row-by-row path (:mod:`composer.ingest.shapes`) would only copy its texts: known roles, a question, an
answer that says something, nothing that needs a repair and nothing beside the texts. Whatever is not surely plain is left to
that path, and both must give the same row: a property test holds them to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer import tables
from composer.ingest.files import Block, Lines, Table
from composer.ingest.keys import flat_keys
from composer.ingest.texts import Texts, arrow
from composer.ingest.turns import ROLES, SPEAKERS
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
_TALK: Mapping[str, tuple[str, str, str, Mapping[str, str]]] = {
    "messages": ("messages", "role", "content", ROLES),
    "sharegpt": ("conversations", "from", "value", {who: role for who, role in SPEAKERS.items() if who != "function_call"}),
}
_ORDER = ("messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "text")
_PLACE = "place in the table"
_TEXTS = (
    "instruction", "input", "output", "context", "response", "prompt", "completion", "query", "question", "answer", "system",
    "text",
)  # fmt: skip
_BESIDE = ("tools", "functions")
_TURN_BESIDE = ("tool_calls", "function_call", "name", "tool_call_id", "thinking", "reasoning_content", "reasoning")
_WORDS = ("system", "user", "assistant", "tool")
_ARROW_WORDS = pl.Series(_WORDS).to_arrow(compat_level=pl.CompatLevel.oldest())
_CODE = {word: code for code, word in enumerate(_WORDS)}
_SAYS = "[!-~]"
_OPEN, _CLOSE, _RETURN = b"{}\r"
_BEFORE_NULL = np.frombuffer(b" \t\rn", dtype=np.uint8)
_LONE_NULL = re.compile(rb"\}[ \t\r\n]*null")


def plain_rows(block: Block, source: Source) -> pl.DataFrame:
    """Return the PLAIN rows of a block, in order; the rows that are missing are for the row-by-row path."""
    import pyarrow as pa

    if source.columns or source.roles:
        return pl.DataFrame(schema=pl.Schema(PLAIN))
    found = list(_tables(block, source))
    if not found:
        return pl.DataFrame(schema=pl.Schema(PLAIN))
    places = np.concatenate([np.arange(start, start + table.num_rows, dtype=np.uint64) for start, table in found])
    return _plain(pa.concat_tables([table for _, table in found]).combine_chunks(), places, source)


def _tables(block: Block, source: Source) -> Iterator[tuple[int, Any]]:
    """Yield tables of the fields that matter, with the place of their first row; what does not fit them is left out."""
    if isinstance(block, Lines):
        yield from _parsed(block.lines, 0, _schema(source))
    elif isinstance(block, Table):
        fits = [field for field in _schema(source) if field.name in block.table.column_names]
        if (table := _cast(block.table, fits)) is not None:
            yield 0, table


def _parsed(lines: Sequence[bytes], start: int, schema: Any) -> Iterator[tuple[int, Any]]:
    """Parse lines together; where one does not fit, halve them until it stands alone."""
    import pyarrow as pa
    import pyarrow.json as pj

    data = b"\n".join(lines)
    if _one_object_each(lines, data):
        options = pj.ReadOptions(use_threads=False, block_size=len(data) + 1)
        try:
            parsing = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
            table = pj.read_json(pa.BufferReader(data), options, parsing)
            table.validate(full=True)  # strings that are not UTF-8
        except pa.ArrowInvalid:
            pass
        else:
            if table.num_rows == len(lines):
                yield start, table
                return
    if len(lines) > 1:
        half = len(lines) // 2
        yield from _parsed(lines[:half], start, schema)
        yield from _parsed(lines[half:], start + half, schema)


def _one_object_each(lines: Sequence[bytes], data: bytes) -> bool:
    """Return whether every line may be one object and none holds a null that stands alone, on which Arrow's parser dies.

    An object that ran over a line's end would leave lines that begin or end otherwise.
    """
    if set(map(itemgetter(0), lines)) != {_OPEN} or not set(map(itemgetter(-1), lines)) <= {_CLOSE, _RETURN}:
        return False
    every = np.frombuffer(data, dtype=np.uint8)
    after = every[np.flatnonzero(every[:-1] == _CLOSE) + 1]
    return not (np.isin(after, _BEFORE_NULL).any() and _LONE_NULL.search(data))


def _schema(source: Source) -> Any:
    """Return the fields that matter: texts, conversations of plain turns, and, empty, what makes a row more than plain."""
    import pyarrow as pa

    text, nothing = pa.string(), pa.null()
    names = dict.fromkeys((*_TEXTS, *source.where, *(("license",) if source.license == "from_row" else ())), text)
    for column, role, content, _ in _TALK.values():
        names[column] = pa.list_(pa.struct([(role, text), (content, text), *((key, nothing) for key in _TURN_BESIDE)]))
    names.update({"history": pa.list_(pa.list_(text)), **dict.fromkeys(_BESIDE, nothing)})
    return pa.schema(list(names.items()))


def _cast(table: Any, fits: Sequence[Any]) -> Any:
    import pyarrow as pa

    columns = {}
    for field in fits:
        column = table.column(field.name)
        kind = column.type
        if field.name == "history":
            if not (pa.types.is_list(kind) or pa.types.is_null(kind)):
                return None
        elif pa.types.is_list(field.type):
            if not _is_talk(kind, field.type) and not pa.types.is_null(kind):
                return None
        elif pa.types.is_null(field.type):
            if column.null_count < len(column):
                return None
            continue
        elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            return None
        else:
            column = column.cast(pa.string()) if pa.types.is_null(kind) else column
        columns[field.name] = column
    out = pa.table(columns)
    try:
        out.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return out


def _is_talk(kind: Any, wanted: Any) -> bool:
    """Return whether a column holds lists of turns that have the wanted texts and nothing that counts beside them."""
    import pyarrow as pa

    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    turn = {kind.value_type.field(i).name: kind.value_type.field(i).type for i in range(kind.value_type.num_fields)}
    texts = [wanted.value_type.field(i).name for i in range(2)]
    is_text = all(name in turn and (pa.types.is_string(turn[name]) or pa.types.is_large_string(turn[name])) for name in texts)
    return is_text and all(key not in turn or pa.types.is_null(turn[key]) for key in _TURN_BESIDE)


def _plain(table: Any, places: NDArray[np.uint64], source: Source) -> pl.DataFrame:
    frame = pl.DataFrame(pl.from_arrow(table)).with_row_index(_PLACE)
    free = _wanted(frame, source)  # rows that no earlier shape has
    parts = []
    for shape in _ORDER:
        own = _own(shape)
        if all(name in frame.columns for name in own) and source.adapter in ("auto", shape):
            is_it = free & pl.all_horizontal(pl.col(name).is_not_null() for name in own)
            if shape in _TALK:
                parts += _talk(frame, table, is_it, shape)
            else:
                parts += _answered(frame, is_it, shape) if shape in _ASKED else _documents(frame, is_it)
        if source.adapter == "auto":
            rivals = (*own, "response", "query") if shape in _ASKED else own
            free &= pl.all_horizontal(pl.lit(True), *(pl.col(name).is_null() for name in rivals if name in frame.columns))
    if not parts:
        return pl.DataFrame(schema=pl.Schema(PLAIN))
    rows = pl.concat(parts).sort(_PLACE)
    beside = frame.select(pl.Series("row", places), _license(frame, source))[rows[_PLACE]]
    return pl.concat([rows, beside], how="horizontal").select(list(PLAIN))


def _wanted(frame: pl.DataFrame, source: Source) -> pl.Expr:
    """Return whether a row is what the source wants and has nothing but texts: no tools, no system text, no history."""
    empty = {"system": pl.col("system") == "", **dict.fromkeys(_BESIDE, pl.lit(False))}
    if isinstance(frame.schema.get("history"), pl.List):
        empty["history"] = pl.col("history").list.len() == 0
    if source.license == "from_row":
        empty["license"] = pl.col("license").str.contains(_SAYS)
    wanted = [pl.lit(True), *(pl.col(name).is_null() | none for name, none in empty.items() if name in frame.columns)]
    for column, value in source.where.items():
        wanted.append((pl.col(column) == value).fill_null(False) if column in frame.columns else pl.lit(False))
    return pl.all_horizontal(wanted)


def _own(shape: str) -> tuple[str, ...]:
    if shape in _TALK:
        return (_TALK[shape][0],)
    if shape not in _ASKED:
        return (shape,)
    asked, _, answered = _ASKED[shape]
    return asked, answered


def _license(frame: pl.DataFrame, source: Source) -> pl.Expr:
    if source.license != "from_row":
        return pl.lit(source.license).alias("license")
    return (pl.col("license").fill_null("unknown") if "license" in frame.columns else pl.lit("unknown")).alias("license")


def _answered(frame: pl.DataFrame, is_it: pl.Expr, shape: str) -> list[pl.DataFrame]:
    """Return the rows of one question and one answer."""
    asked, given, answered = _ASKED[shape]
    is_it &= pl.col(asked).str.contains(_SAYS) & pl.col(answered).str.contains(_SAYS)
    if "context" in frame.columns and shape != "prompt_completion":
        is_it &= pl.col("context").is_null()
    prompt, n_asked = pl.col(asked), pl.lit(None, pl.UInt32)
    if given is not None and given in frame.columns:
        more = pl.col(given).fill_null("")
        is_it &= (more == "") | more.str.contains(_SAYS)
        prompt = pl.when(more == "").then(prompt).otherwise(pl.concat_str(prompt, pl.lit("\n\n"), more))
        n_asked = pl.when(more != "").then(pl.col(asked).str.len_chars())
    rows = frame.filter(is_it).select(_PLACE, prompt=prompt, answer=pl.col(answered), asked=n_asked)
    if rows.is_empty():
        return []
    n = len(rows)
    content = pl.concat([rows["prompt"], rows["answer"]]).gather(np.arange(2 * n).reshape(2, -1).T.ravel())
    flat = Texts.of(content)
    codes = np.tile([_CODE["user"], _CODE["assistant"]], n)
    return [_rows(rows, shape, flat, codes, np.full(n, 2))]


def _documents(frame: pl.DataFrame, is_it: pl.Expr) -> list[pl.DataFrame]:
    """Return the rows that are one plain text."""
    rows = frame.filter(is_it & pl.col("text").str.contains(_SAYS))
    if rows.is_empty():
        return []
    codes = np.full(len(rows), _CODE["assistant"])
    alone = rows.select(_PLACE, pl.lit(None, pl.UInt32).alias("asked"))
    return [_rows(alone, "text", Texts.of(rows["text"]), codes, np.ones(len(rows), dtype=np.int64))]


def _talk(frame: pl.DataFrame, table: Any, is_it: pl.Expr, shape: str) -> list[pl.DataFrame]:
    """Return the conversations that begin with a question, after a system turn or none, and end with an answer."""
    column, role, content, words = _TALK[shape]
    length = pl.col(column).list.len()
    rows = frame.filter(is_it & (length >= 2)).select(
        _PLACE, length.cast(pl.Int64).alias("length"), pl.lit(None, pl.UInt32).alias("asked")
    )
    if rows.is_empty():
        return []
    talk = table.column(column).take(rows[_PLACE].to_arrow()).combine_chunks().flatten()
    known = {who: _CODE[each] for who, each in words.items()}
    code = pl.Series(talk.field(role), dtype=pl.String).replace_strict(known, default=-1, return_dtype=pl.Int64).fill_null(-1)
    texts, lengths = talk.field(content), rows["length"].to_numpy()
    codes = np.where(pl.Series(texts, dtype=pl.String).is_null().to_numpy(), -1, code.to_numpy())
    good = _is_conversation(codes, Texts.of(texts), lengths)
    if not good.all():
        turn_is_good = np.repeat(good, lengths)
        texts, codes, lengths = texts.filter(arrow(turn_is_good)), codes[turn_is_good], lengths[good]
        rows = rows.filter(pl.Series(good))
    return [_rows(rows, shape, Texts.of(texts), codes, lengths)] if len(rows) else []


def _is_conversation(codes: NDArray[np.int64], texts: Texts, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    ends = np.cumsum(lengths)
    begins = ends - lengths
    asks = np.minimum(begins + (codes[begins] == _CODE["system"]), ends - 1)
    all_known = np.minimum.reduceat(codes, begins) >= 0
    spoken = (codes[asks] == _CODE["user"]) & (codes[ends - 1] == _CODE["assistant"])
    return np.asarray(all_known & spoken & texts.says(asks) & texts.says(ends - 1))


def _rows(rows: pl.DataFrame, shape: str, texts: Texts, codes: NDArray[np.int64], lengths: NDArray[np.int64]) -> pl.DataFrame:
    """Return rows with their messages and keys, without those that a repair awaits."""
    import pyarrow as pa

    keys, clean = flat_keys(texts, [_WORDS[code] for code in codes.tolist()], lengths)
    roles = _ARROW_WORDS.take(arrow(codes))
    turns = pa.StructArray.from_arrays([roles, texts.array], ["role", "content"])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    messages = pl.Series("messages", pa.LargeListArray.from_arrays(arrow(offsets), turns))
    made = rows.select(_PLACE, pl.lit(shape).alias("shape"), messages, "asked", pl.Series("key", keys, pl.Binary))
    return made if clean.all() else made.filter(pl.Series(clean))
