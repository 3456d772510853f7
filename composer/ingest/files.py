"""Files to blocks of rows, one reader per ending; what cannot be read comes out as :class:`Broken` in its place.

A block is cut off cheaply and parsed later, elsewhere: its rows one by one by ``values``, or all at once as an Arrow table
where it lends itself to that. A file that cannot be read at all is one broken row, and so is what a cut stream has lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from composer.ingest.csv_rows import csv_rows
from composer.ingest.json_array import array_rows
from composer.ingest.opening import TruncatedError, chunks, whole
from composer.ingest.raw import Broken, Mended, parse
from composer.ingest.shapes import FIELDS
from composer.ingest.texts import arrow

ROWS = 2_000
"""Rows of a block, where they are cut off one by one."""

Places = NDArray[np.int64]

_ARROW_ROWS = 8_192
_OPEN, _NEWLINE = b"{\n"
_WRAPPERS = ("data", "rows", "train", "examples", "items", "samples")


class Block(Protocol):
    """Some rows of a file, in order."""

    @property
    def size(self) -> int:
        """How many rows there are."""

    def values(self, which: Sequence[int]) -> list[object]:
        """Return the chosen rows: mappings, other JSON values, Mended or Broken."""


@dataclass(frozen=True)
class Lines:
    """Lines of JSON that are not parsed yet: where each begins and ends in the bytes that hold them; none is blank."""

    data: bytes
    begins: Places
    ends: Places

    @classmethod
    def of(cls, data: bytes, stop: int) -> Lines:
        """Return the lines of some text, up to one of its places, but those that are blank."""
        begins, ends = _stretches(data, stop)
        heads = np.frombuffer(data, dtype=np.uint8)[begins]
        blank = [i for i in np.flatnonzero(heads != _OPEN).tolist() if data[begins[i] : ends[i]].isspace()]
        if not blank:
            return cls(data, begins, ends)
        kept = zip(np.delete(begins, blank).tolist(), np.delete(ends, blank).tolist(), strict=True)
        text = b"\n".join(data[begin:end] for begin, end in kept)
        return cls(text, *_stretches(text, len(text)))

    @property
    def size(self) -> int:
        """How many lines there are."""
        return len(self.begins)

    def values(self, which: Sequence[int]) -> list[object]:
        """Parse the chosen lines."""
        return [parse(self.data[self.begins[i] : self.ends[i]]) for i in which]


@dataclass(frozen=True)
class Rows:
    """Rows that were parsed when they were cut off."""

    rows: list[object]

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def values(self, which: Sequence[int]) -> list[object]:
        """Return the chosen rows."""
        return [self.rows[i] for i in which]


@dataclass(frozen=True)
class Table:
    """Rows of an Arrow table."""

    table: Any  # pa.Table

    @property
    def size(self) -> int:
        """How many rows there are."""
        return int(self.table.num_rows)

    def values(self, which: Sequence[int]) -> list[object]:
        """Return the chosen rows; a string that is not UTF-8 breaks its row alone."""
        if not which:
            return []
        chosen = self.table if len(which) == self.size else self.table.take(arrow(np.array(which, dtype=np.int64)))
        try:
            return [_bare(row) for row in chosen.to_pylist()]
        except UnicodeDecodeError:
            return [_row(chosen.slice(i, 1)) for i in range(len(which))]


def jsonl(path: Path, *, encoding: str) -> Iterator[Block]:
    """Yield blocks of lines; blank lines are no rows."""
    held = b""
    try:
        for chunk in chunks(path, encoding=encoding):
            end, held = chunk.rfind(b"\n") + 1, held + chunk
            if end:
                yield from _lines(held, len(held) - len(chunk) + end)
                held = chunk[end:]
    except TruncatedError as error:
        yield _lost("truncated_file", f"{path.name}: {error}: {held[:200].decode(errors='replace')}")
    else:
        yield from _lines(held, len(held))


def json_file(path: Path, *, encoding: str) -> Iterator[Block]:
    """Yield the objects of an array, of an object that holds one array (``{"data": [...]}``), or of JSON lines in disguise."""
    try:
        head = next(chunks(path, encoding=encoding), b"").lstrip()
        if head.startswith(b"{"):
            lines = [line for line in head.split(b"\n", 20)[:20] if line.strip()]
            if len(lines) > 1 and any(isinstance(parse(line), dict) for line in lines):
                yield from jsonl(path, encoding=encoding)
                return
            document = parse(b"".join(chunks(path, encoding=encoding)))
            if not isinstance(document, Broken):
                yield from _blocks(iter(_inner(document)))
                return
    except TruncatedError:
        pass
    yield from _blocks(array_rows(path, encoding=encoding))


def csv_table(path: Path, *, encoding: str) -> Iterator[Block]:
    """Yield the rows below a header; an empty cell is an absent value."""
    yield from _blocks(csv_rows(path, encoding=encoding))


def parquet(path: Path, *, encoding: str) -> Iterator[Block]:  # noqa: ARG001 - Parquet knows its own
    """Yield the rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = whole(path)
        with pq.ParquetFile(content if isinstance(content, Path) else pa.BufferReader(content)) as file:
            for group in range(file.num_row_groups):
                yield from _group(file, group, path)
    except TruncatedError as error:
        yield _lost("truncated_file", f"{path.name}: {error}")
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        yield _lost("unreadable_file", f"{path.name}: not readable as Parquet: {_told(error)}")


def _group(file: Any, group: int, path: Path) -> Iterator[Block]:
    """Yield the rows of one row group; one that is damaged is one broken row, and the others are read."""
    import pyarrow as pa

    try:
        for batch in file.iter_batches(batch_size=_ARROW_ROWS, row_groups=[group]):
            yield Table(pa.table(batch))
    except (pa.ArrowException, ValueError, OSError) as error:
        n = file.metadata.row_group(group).num_rows
        yield _lost("unreadable_file", f"{path.name}: row group {group} of {n} rows is not readable as Parquet: {_told(error)}")


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


Reader = Callable[..., Iterator[Block]]

READERS: Mapping[str, Reader] = {
    ".jsonl": jsonl,
    ".ndjson": jsonl,
    ".json": json_file,
    ".parquet": parquet,
    ".csv": csv_table,
    ".tsv": csv_table,
}


def unreadable(path: Path, error: OSError) -> Block:
    """Return the one broken row that stands for a file that cannot be opened."""
    return _lost("unreadable_file", f"{path.name}: {error.strerror or error}")


def _lost(reason: str, text: str) -> Rows:
    return Rows([Broken(reason, text)])


def _lines(text: bytes, stop: int) -> Iterator[Block]:
    lines = Lines.of(text, stop)
    if lines.size:
        yield lines


def _stretches(data: bytes, stop: int) -> tuple[Places, Places]:
    """Return where the lines before a place begin and end that hold anything."""
    breaks = np.flatnonzero(np.frombuffer(data, dtype=np.uint8)[:stop] == _NEWLINE)
    begins, ends = np.append(0, breaks + 1), np.append(breaks, stop)
    held = ends > begins
    return begins[held], ends[held]


def _blocks(rows: Iterator[object]) -> Iterator[Block]:
    held: list[object] = []
    for row in rows:
        held.append(row)
        if len(held) == ROWS:
            yield Rows(held)
            held = []
    if held:
        yield Rows(held)


def _inner(document: object) -> list[object]:
    """Return the rows of an object that holds one array of objects and has no field of a shape itself; else the one row."""
    value, repairs = (document.value, document.repairs) if isinstance(document, Mended) else (document, ())
    if not isinstance(value, dict) or not FIELDS.isdisjoint(value):
        return [document]
    arrays = [each for name, each in value.items() if isinstance(each, list) and _holds_rows(name, each)]
    if len(arrays) != 1:
        return [document]
    return [Mended(row, repairs) if repairs and "\ufffd" in json.dumps(row, ensure_ascii=False) else row for row in arrays[0]]


def _holds_rows(name: str, value: list[Any]) -> bool:
    return any(isinstance(row, dict) for row in value) or (not value and name in _WRAPPERS)


def _bare(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without the nulls inside its values: a table gives every struct the keys of all."""
    return {name: _without_nulls(value) if isinstance(value, (list, dict)) else value for name, value in row.items()}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _row(table: Any) -> object:
    try:
        return _bare(table.to_pylist()[0])
    except UnicodeDecodeError:
        return Broken("invalid_encoding", json.dumps({"columns": table.column_names}))
