"""The elements of a JSON array, one by one, however large the file: a broken one costs itself and not those that follow it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from composer.ingest.opening import TruncatedError, chunks
from composer.ingest.raw import Broken, Element, Mended, element, encodable
from composer.ingest.shapes import FIELDS

MOST = 1 << 26
"""Characters of one element; a longer one is taken for a string that is never closed."""

_SPACE = re.compile(r"[\s,\ufeff]*")
MOST_AGAIN = 1 << 22
"""Characters of an element that may be where good ones begin again."""

_PART = {"type", "text"}  # keys of a part of a content
_ARRAY = re.compile(r"\[\s*(?=\{)")
_AGAIN = re.compile(r"(?=\{)")


def array_rows(path: Path, *, encoding: str) -> Iterator[object]:
    """Yield the elements of an array, or of the first array of objects inside a broken object.

    What stands where an element cannot be read is one Broken row.
    """
    text = _Text(path, encoding)
    inside = text.skip(_SPACE) == "{"
    if inside:
        _begin(text)
    if text.skip(_SPACE) == "[":
        text.at += 1
        yield from _elements(text)
        if not inside and text.skip(_SPACE):
            yield Broken("invalid_json", text.rest(1_000))
    elif text.skip(_SPACE):
        found = _element(text)
        yield found.value if found else Broken("invalid_json", text.rest(1_000))
    if text.lost:
        yield text.lost


class _Text:
    """A file's text, of which no more is held than is looked at."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.held, self.at, self.ended = "", 0, False
        self.lost: Broken | None = None
        self._path, self._chunks = path, chunks(path, encoding=encoding)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def more(self) -> bool:
        """Read on, twice as far as before; return whether there was more."""
        wanted = max(len(self.held) - self.at, 1)
        parts: list[str] = []
        while not self.ended and wanted > 0:
            parts.append(self._piece())
            wanted -= len(parts[-1])
        self.held, self.at = self.held[self.at :] + "".join(parts), 0
        return any(parts)

    def _piece(self) -> str:
        try:
            return self._decoder.decode(next(self._chunks))
        except StopIteration:
            self.ended = True
            return self._decoder.decode(b"", True)
        except TruncatedError as error:
            self.ended = True
            self.lost = Broken("truncated_file", f"{self._path.name}: {error}")
            return ""

    def skip(self, what: re.Pattern[str]) -> str:
        """Pass over what a pattern matches and return the character that follows, empty at the end."""
        while True:
            found = what.match(self.held, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.held) or not self.more():
                return self.held[self.at : self.at + 1]

    def rest(self, most: int) -> str:
        """Return the beginning of what is left."""
        return self.held[self.at : self.at + most]


def _elements(text: _Text) -> Iterator[object]:
    known: set[str] = set()  # keys of good elements: inside a broken one, an inner object is none
    broken = False
    while (head := text.skip(_SPACE)) and head != "]":
        found = _element(text, most=MOST_AGAIN if broken else MOST)
        if found is None or (broken and not _is_row(found.value, known)):
            skipped = _resume(text)
            if not broken and not text.lost:
                yield Broken("invalid_json" if encodable(skipped) else "invalid_encoding", skipped[:1_000])
            broken = True
            continue
        text.at, broken = found.end, False
        known.update(_keys(found.value))
        yield found.value
    if not head and not broken and not text.lost:
        yield Broken("invalid_json", "the array is not closed")
    text.at += len(head)


def _element(text: _Text, *, most: int = MOST) -> Element | None:
    """Return the next element, or None for one that is broken."""
    while True:
        found = element(text.held, text.at)
        if found and (found.end < len(text.held) or text.ended):  # a number could go on
            return found
        if len(text.held) - text.at > most or not text.more():
            return element(text.held, text.at)


def _keys(value: object) -> set[str]:
    value = value.value if isinstance(value, Mended) else value
    return set(value) if isinstance(value, dict) else set()


def _is_row(value: object, known: set[str]) -> bool:
    keys = _keys(value)
    return not keys.isdisjoint(known | FIELDS) and not ("type" in keys and keys <= _PART)


def _begin(text: _Text) -> None:
    """Go to the first array of objects, where there is one."""
    while True:
        if found := _ARRAY.search(text.held, text.at):
            text.at = found.start()
            return
        if not text.more():
            return


def _resume(text: _Text) -> str:
    """Go to where the next object may begin, or to the end, and return what was passed over."""
    passed = ""
    while True:
        if found := _AGAIN.search(text.held, text.at + 1):
            passed += text.held[text.at : found.start()]
            text.at = found.end()
            return passed
        end = max(text.at, len(text.held) - 1)
        passed, text.at = passed + text.held[text.at : end], end
        if not text.more():
            passed, text.at = passed + text.held[text.at :], len(text.held)
            return passed
