"""A block as an Arrow table of the fields by which plain rows are told, as far as its rows fit one.

Text goes into text columns and conversations into lists of turns; whatever would make a row more than plain (tools, calls,
thinking) is declared as nothing, so that a row that has it does not fit and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from composer.ingest.files import Block, Lines, Table
from composer.ingest.turns import ROLES, SPEAKERS
from composer.types import Source

TALK: Mapping[str, tuple[str, str, str, Mapping[str, str]]] = {
    "messages": ("messages", "role", "content", ROLES),
    "sharegpt": ("conversations", "from", "value", {who: role for who, role in SPEAKERS.items() if who != "function_call"}),
}
"""Shapes of conversations: the column, the keys of speaker and text inside a turn, and the speakers that are plain."""

BESIDE = ("tools", "functions")
"""Columns that make a row more than plain."""

_TEXTS = (
    "instruction", "input", "output", "context", "response", "prompt", "completion", "query", "question", "answer", "system",
    "text",
)  # fmt: skip
_TURN_BESIDE = ("tool_calls", "function_call", "name", "tool_call_id", "thinking", "reasoning_content", "reasoning")
_OPEN, _CLOSE, _RETURN = b"{}\r"
_BEFORE_NULL = np.frombuffer(b" \t\rn", dtype=np.uint8)
_FIRST = 8  # lines that show the fields of their block
_LONE_NULL = re.compile(rb"\}[ \t\r\n]*null")


def tables_of(block: Block, source: Source) -> Iterator[tuple[int, Any]]:
    """Yield tables of the fields that matter, with the place of their first row; what does not fit them is left out."""
    if isinstance(block, Lines):
        schema = _schema(source)
        lean = _lean(block, schema)
        table = None if lean is None else _parsed(block, 0, block.size, lean, unexpected="error")
        if table is not None:
            yield 0, table
        else:
            yield from _halved(block, 0, block.size, schema)
    elif isinstance(block, Table):
        fits = [field for field in _schema(source) if field.name in block.table.column_names]
        if (table := _cast(block.table, fits)) is not None:
            yield 0, table


def _lean(lines: Lines, schema: Any) -> Any:
    """Return the fields of the first lines, where all of them matter; to look for no others saves a quarter of the parsing."""
    import pyarrow as pa

    first = lines.values(range(min(_FIRST, lines.size)))
    names = dict.fromkeys(name for row in first if isinstance(row, dict) for name in row)
    if not names or not set(names) <= set(schema.names):
        return None
    talks = {
        column: pa.list_(pa.struct([(role, pa.string()), (content, pa.string())])) for column, role, content, _ in TALK.values()
    }
    return pa.schema([(name, talks.get(name, schema.field(name).type)) for name in names])


def _halved(lines: Lines, start: int, stop: int, schema: Any) -> Iterator[tuple[int, Any]]:
    """Parse lines together; where one does not fit, halve them until it stands alone."""
    table = _parsed(lines, start, stop, schema, unexpected="ignore")
    if table is not None:
        yield start, table
    elif stop - start > 1:
        half = (start + stop) // 2
        yield from _halved(lines, start, half, schema)
        yield from _halved(lines, half, stop, schema)


def _parsed(lines: Lines, start: int, stop: int, schema: Any, *, unexpected: str) -> Any:
    """Return lines as a table of the schema, or None where one does not fit."""
    import pyarrow as pa
    import pyarrow.json as pj

    if not _one_object_each(lines, start, stop):
        return None
    begin, end = int(lines.begins[start]), int(lines.ends[stop - 1])
    options = pj.ReadOptions(use_threads=False, block_size=end - begin + 1)
    parsing = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected)
    try:
        table = pj.read_json(pa.BufferReader(pa.py_buffer(lines.data).slice(begin, end - begin)), options, parsing)
        table.validate(full=True)  # strings that are not UTF-8
    except pa.ArrowInvalid:
        return None
    return table if table.num_rows == stop - start else None


def _one_object_each(lines: Lines, start: int, stop: int) -> bool:
    """Return whether every line may be one object and none holds a null that stands alone, on which Arrow's parser dies.

    An object that ran over a line's end would leave lines that begin or end otherwise.
    """
    begins, ends = lines.begins[start:stop], lines.ends[start:stop]
    every = np.frombuffer(lines.data, dtype=np.uint8)
    last = every[ends - 1]
    if not ((every[begins] == _OPEN).all() and ((last == _CLOSE) | (last == _RETURN)).all()):
        return False
    every = every[begins[0] : ends[-1]]
    after = every[np.flatnonzero(every[:-1] == _CLOSE) + 1]
    return not (np.isin(after, _BEFORE_NULL).any() and _LONE_NULL.search(lines.data, begins[0], ends[-1]))


def _schema(source: Source) -> Any:
    """Return the fields that matter: texts, conversations of plain turns, and, empty, what makes a row more than plain."""
    import pyarrow as pa

    text, nothing = pa.string(), pa.null()
    names = dict.fromkeys((*_TEXTS, *source.where, *(("license",) if source.license == "from_row" else ())), text)
    for column, role, content, _ in TALK.values():
        names[column] = pa.list_(pa.struct([(role, text), (content, text), *((key, nothing) for key in _TURN_BESIDE)]))
    names.update({"history": pa.list_(pa.list_(text)), **dict.fromkeys(BESIDE, nothing)})
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
