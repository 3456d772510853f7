"""A block as an Arrow table of the fields by which plain rows are told, as far as its rows fit one.

Text goes into text columns and conversations into lists of turns; whatever would make a row more than plain (tools, calls,
thinking) is declared as nothing, so that a row that has it does not fit and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
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
_LONE_NULL = re.compile(rb"\}[ \t\r\n]*null")


def tables_of(block: Block, source: Source) -> Iterator[tuple[int, Any]]:
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
