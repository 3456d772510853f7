"""Files to rows, one reader per ending; a row that cannot be read comes out as :class:`Broken` in its place.

Bytes that are not UTF-8 are read as lone surrogates. They do no harm in a column that nobody uses, and where they reach a
sample the row is refused there, so that one wrong byte costs one row and not a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.errors import SourceError

BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read: the reason under which it is counted, and what stands there."""

    reason: str
    text: str = ""


def jsonl(path: Path) -> Iterator[object]:
    """Yield one row per line; blank lines are no rows."""
    with path.open("rb") as file:
        for line in file:
            if (text := _decode(line)).strip():
                yield _parse(text)


def json_array(path: Path) -> Iterator[object]:
    """Yield the objects of an array, or of JSON lines in disguise.

    Raises
    ------
    SourceError
        Where the file is neither.
    """
    with path.open("rb") as file:
        head = next((text for line in file if (text := _decode(line)).strip()), "")
    expected = "an array of objects, or one object per line"
    if head.lstrip().startswith("["):
        try:
            yield from json.loads(_decode(path.read_bytes()))
        except (ValueError, RecursionError) as error:
            raise SourceError(f"not a JSON array: {error}", expected=expected, got=str(path)) from None
    elif isinstance(_parse(head), dict):
        yield from jsonl(path)
    elif head:
        raise SourceError("not a JSON array", expected=expected, got=str(path), hint="JSON lines end in .jsonl")


def parquet(path: Path) -> Iterator[object]:
    """Yield the rows of a Parquet file.

    Raises
    ------
    SourceError
        Where the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                yield from records(batch)
    except (pa.ArrowException, ValueError, OSError) as error:
        hint = "write or download the file again"
        raise SourceError(f"not readable as Parquet: {str(error)[:160]}", got=str(path), hint=hint) from None


Reader = Callable[[Path], Iterator[object]]

READERS: Mapping[str, Reader] = {
    ".jsonl": jsonl,
    ".ndjson": jsonl,
    ".json": json_array,
    ".parquet": parquet,
}


def records(batch: Any) -> Iterator[object]:
    """Yield the rows of an Arrow batch or table; a string that is not UTF-8 breaks its row alone."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for i in range(batch.num_rows):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield Broken("invalid_encoding")


def encodable(text: str) -> bool:
    """Return whether a text can be written as UTF-8.

    Examples
    --------
    >>> encodable("né"), encodable(b"n\\xe9".decode(errors="surrogateescape"))
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode(line: bytes) -> str:
    return line.decode("utf-8-sig", errors="surrogateescape")


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Broken("invalid_json" if encodable(text) else "invalid_encoding", text.strip())
