"""Comma-, semicolon-, tab- or bar-separated rows below a header, with one broken row per broken row.

A quote that is never closed would swallow the rest of a file. So each record is read on its own: one that does not come out
right costs its first line, and reading goes on with the next.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from composer.ingest.opening import TruncatedError, chunks
from composer.ingest.raw import Broken

MOST_LINES = 10_000
"""Lines of one record; a longer one is taken for a quote that is never closed."""

_DELIMITERS = ",;\t|"

csv.field_size_limit(2**31 - 1)


def csv_rows(path: Path, *, encoding: str) -> Iterator[object]:
    """Yield one mapping per record; an empty cell is None, and a record of another width is broken."""
    lines = _Lines(_physical(path, encoding))
    head = next(lines, None)
    if head is None:
        return
    if isinstance(head, Broken):
        yield head
        return
    delimiter = "\t" if ".tsv" in path.suffixes else max(_DELIMITERS, key=head.count)
    lines.give_back([head])
    header = _record(lines, delimiter)
    if isinstance(header, Broken) or len(set(header)) < len(header):
        yield Broken("unreadable_file", f"{path.name}: a header with two columns of one name: {head[:200]}")
        return
    while (record := _next(lines, delimiter, width=len(header))) is not None:
        yield record if isinstance(record, Broken) else dict(zip(header, (cell or None for cell in record), strict=True))


class _Lines(Iterator["str | Broken"]):
    """Physical lines that can be given back; blank ones between records are passed over by the reader."""

    def __init__(self, lines: Iterator[str | Broken]) -> None:
        self._lines, self._again = lines, deque[str]()

    def __next__(self) -> str | Broken:
        return self._again.popleft() if self._again else next(self._lines)

    def give_back(self, lines: list[str]) -> None:
        self._again.extendleft(reversed(lines))


def _next(lines: _Lines, delimiter: str, *, width: int) -> list[str] | Broken | None:
    """Return the next record of the wanted width, or what is broken in its place; None at the end."""
    for line in lines:
        if isinstance(line, Broken):
            return line
        if not line.strip():
            continue
        lines.give_back([line])
        return _record(lines, delimiter, width=width)
    return None


def _record(lines: _Lines, delimiter: str, *, width: int | None = None) -> list[str] | Broken:
    taken: list[str] = []
    lost: list[Broken] = []

    def feed() -> Iterator[str]:
        for line in lines:
            if isinstance(line, Broken):
                lost.append(line)
                return
            taken.append(line)
            yield line
            if len(taken) == MOST_LINES:
                return

    try:
        record = next(csv.reader(feed(), delimiter=delimiter, strict=True))
        reason = "wrong_fields" if width not in (None, len(record)) else None
    except (csv.Error, StopIteration):
        record, reason = [], "invalid_csv"
    if reason is None:
        return record
    if len(taken) > 1:
        reason = "invalid_csv"  # the quote of the first line was closed by another's
    lines.give_back(taken[1:])
    if lost:
        return lost[0]
    return Broken(reason, taken[0].rstrip("\r\n"))


def _physical(path: Path, encoding: str) -> Iterator[str | Broken]:
    held = b""
    try:
        for chunk in chunks(path, encoding=encoding):
            *whole, held = (held + chunk).split(b"\n")
            yield from (_decode(line + b"\n") for line in whole)
    except TruncatedError as error:
        yield Broken("truncated_file", f"{path.name}: {error}: {held[:200].decode(errors='replace')}")
    else:
        if held:
            yield _decode(held)


def _decode(line: bytes) -> str:
    return line.decode(errors="surrogateescape")
