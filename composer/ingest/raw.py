"""One raw row: a JSON value, or what stands in its place where there is none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_MOST = 1_000  # characters that are kept of what is broken


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read: the reason under which it is counted, and what stands there."""

    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Mended:
    """A row that could be read after a repair."""

    value: object
    repairs: tuple[str, ...]


_DECODERS: tuple[tuple[json.JSONDecoder, tuple[str, ...]], ...] = (
    (json.JSONDecoder(), ()),
    (json.JSONDecoder(parse_int=str), ()),  # thousands of digits, which are not made into a number
    (json.JSONDecoder(strict=False, parse_int=str), ("lenient_json",)),
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")


def parse(line: bytes) -> object:
    """Return the JSON value of a line, a Mended one, or Broken.

    Bytes that are not UTF-8 become lone surrogates, which do no harm in a field that nobody uses. Half a character that was
    written as an escape becomes U+FFFD, and a raw line break inside a string is taken as it is.

    Examples
    --------
    >>> parse(b'{"a": 1}'), parse(b'{"a": ')
    ({'a': 1}, Broken(reason='invalid_json', text='{"a":'))
    >>> parse(bytes([123, 34, 97, 34, 58, 34, 9, 34, 125]))  # a tab inside the string
    Mended(value={'a': '\\t'}, repairs=('lenient_json',))
    """
    text = line.decode("utf-8-sig", errors="surrogateescape").strip()
    found = element(text, 0)
    if found is None or found.end < len(text):
        return Broken("invalid_json" if encodable(text) else "invalid_encoding", text[:_MOST])
    return found.value


@dataclass(frozen=True, slots=True)
class Element:
    """A value, which may be Mended, and where its text ends."""

    value: Any
    end: int


def element(text: str, at: int) -> Element | None:
    """Return the JSON value that begins at a place of a text, or None where none does."""
    for decoder, repairs in _DECODERS:
        try:
            value, end = decoder.raw_decode(text, at)
        except RecursionError:
            return None
        except ValueError:
            continue
        if _ESCAPED.search(text, at, end) and encodable(text[at:end]) and not encodable(json.dumps(value, ensure_ascii=False)):
            value, repairs = _whole(value), (*repairs, "lone_surrogates")
        return Element(Mended(value, repairs) if repairs else value, end)
    return None


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


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_whole(key): _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value
