"""The beginning of data files, read as ingest reads them: what is there and about how much, however large the files are.

The first bytes of some files are laid into a folder under the same endings, and that folder is read as a source. So a look
finds the shapes, repairs and drops that a run will find, and no file is read whole but a small one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from composer.ingest.opening import COMPRESSED, TruncatedError, chunks, ending, whole
from composer.ingest.raw import Mended, element, parse
from composer.ingest.reading import read, rows
from composer.types import Source

HEAD = 1 << 20  # bytes of a file, unpacked
ROWS = 1_000  # of a Parquet file
FILES = 4  # of a source
WHOLE = 64 << 20
"""Bytes of a file that can only be read whole, such as an object that holds its rows, above which it is not looked into."""

_NOTHING = {"seen": 0, "samples": 0, "dropped": {}, "shapes": {}, "licenses": {}}
_SPACE = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Beginning:
    """What a look at some files found.

    ``stats`` are those of :func:`composer.ingest.reading.read` for the rows that were looked at. ``rows`` is how many all files
    hold: to the row where ``is_exact``, else by their size, and None where nobody can tell. ``first`` is the first row that has
    columns. ``texts`` has the columns messages and extras of the rows that are kept.
    """

    stats: Mapping[str, Any]
    rows: int | None
    is_exact: bool
    n_files: int
    looked_into: int
    first: Mapping[str, Any]
    texts: pl.DataFrame


@dataclass(frozen=True)
class _Head:
    """How much of a file lies in the folder: its bytes, whether that is all, and the rows of the file where it tells."""

    n_bytes: int
    is_whole: bool
    rows: int | None = None


def beginning(source: Source, paths: Sequence[Path], folder: Path) -> Beginning:
    """Return what the beginnings of a source's files hold; ``folder`` is for its work, and the caller removes it.

    The source says how its rows are to be taken; its files are ``paths``, which have one ending.
    """
    heads = folder / "heads"
    heads.mkdir(parents=True)
    is_table = ending(paths[0]) == ".parquet"
    laid = [_lay(path, heads / f"{i:03}{ending(path)}", encoding=source.encoding) for i, path in enumerate(paths[:FILES])]
    of_tables = [_rows_of(path) for path in paths] if is_table else []
    there = source.model_copy(update={"path": str(heads), "encoding": "auto"})
    found = [head for head in laid if head is not None]
    stats: dict[str, Any] = read(there, folder / "parts") if found else dict(_NOTHING)
    is_exact = (
        all(n is not None for n in of_tables) if is_table else len(found) == len(paths) and all(h.is_whole for h in found)
    )
    n = sum(filter(None, of_tables)) if is_table else stats["seen"] if is_exact else _by_size(stats["seen"], found, paths)
    return Beginning(stats, n, is_exact, len(paths), len(found), _first(there) if found else {}, _texts(folder / "parts"))


def _by_size(seen: int, heads: Sequence[_Head], paths: Sequence[Path]) -> int | None:
    """Return about how many rows files hold, of which some bytes were looked at; None where they are compressed."""
    looked = sum(head.n_bytes for head in heads)
    if not looked or any(path.suffix.lower() in COMPRESSED for path in paths):
        return None
    return round(seen * sum(path.stat().st_size for path in paths) / looked)


def _lay(path: Path, to: Path, *, encoding: str) -> _Head | None:
    """Lay the beginning of a file under another name; None for a file that is too large for what it is, or has no bytes."""
    try:
        if ending(path) == ".parquet":
            return _lay_table(path, to)
        pieces = chunks(path, encoding=encoding)
        piece = next(pieces, b"")
        try:
            is_whole = next(pieces, None) is None
        except TruncatedError:
            is_whole = True
    except OSError:  # met again, and counted, when the file itself is read
        to.symlink_to(path.resolve())
        return _Head(0, is_whole=False)
    if not is_whole and ending(path) == ".json":
        return _lay_json(path, piece, to)
    head = piece if is_whole else _lines(piece)
    to.write_bytes(head)
    return _Head(len(head), is_whole)


def _lay_table(path: Path, to: Path) -> _Head | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix.lower() in COMPRESSED and path.stat().st_size > WHOLE:
        return None
    try:
        content = whole(path)
        with pq.ParquetFile(content if isinstance(content, Path) else pa.BufferReader(content)) as file:
            first = list(islice(file.iter_batches(batch_size=ROWS), 1))
            pq.write_table(pa.Table.from_batches(first, schema=file.schema_arrow), to)
            return _Head(0, is_whole=file.metadata.num_rows <= ROWS)
    except (pa.ArrowException, ValueError, OSError, TruncatedError):  # the reader below says what is wrong with it
        to.symlink_to(path.resolve())
        return _Head(0, is_whole=False)


def _rows_of(path: Path) -> int | None:
    """Return the rows that a Parquet file's footer tells of, without a look at them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = whole(path) if path.suffix.lower() not in COMPRESSED or path.stat().st_size <= WHOLE else None
        if content is None:
            return None
        return int(pq.read_metadata(content if isinstance(content, Path) else pa.BufferReader(content)).num_rows)
    except (pa.ArrowException, ValueError, OSError, TruncatedError):
        return None


def _lay_json(path: Path, piece: bytes, to: Path) -> _Head | None:
    """Lay the beginning of a large JSON file: an array is closed after its last whole element, lines stay lines."""
    start = piece.lstrip()[:1]
    if start == b"[":
        head = _closed(piece[:HEAD]) or _closed(piece)
    elif any(isinstance(parse(line), dict) for line in piece.split(b"\n", 3)[:3] if line.strip()):
        head, to = _lines(piece), to.with_suffix(".jsonl")
    elif path.stat().st_size <= WHOLE:
        to.symlink_to(path.resolve())
        return _Head(path.stat().st_size, is_whole=True)
    else:
        return None
    to.write_bytes(head)
    return _Head(len(head), is_whole=False)


def _lines(piece: bytes) -> bytes:
    """Return the first lines of a text, at least one."""
    cut = piece.rfind(b"\n", 0, HEAD) + 1 or piece.rfind(b"\n") + 1 or len(piece)
    return piece[:cut]


def _closed(piece: bytes) -> bytes:
    """Return the whole elements at the beginning of an array, as an array; nothing where there is none."""
    text = piece.decode("utf-8", errors="surrogateescape")
    end = text.index("[") + 1
    n = 0
    while (found := element(text, _after_space(text, end))) and found.end < len(text):
        end, n = found.end, n + 1
    return (text[:end] + "]").encode("utf-8", errors="surrogateescape") if n else b""


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _first(source: Source) -> Mapping[str, Any]:
    for row in islice(rows(source), 20):
        value = row.value if isinstance(row, Mended) else row
        if isinstance(value, Mapping):
            return value
    return {}


def _texts(parts: Path) -> pl.DataFrame:
    found = sorted(parts.glob("rows-*.parquet"))
    return pl.concat([pl.read_parquet(path, columns=["messages", "extras"]) for path in found]) if found else pl.DataFrame()
