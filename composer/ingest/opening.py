"""Any file as a stream of UTF-8: decompressed by what its first bytes say, decoded by its mark or the declared encoding.

A name that ends in .gz and holds plain text is plain text. Bytes that the encoding does not know become lone surrogates, so
that one wrong byte costs the row that uses it and not the file.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

CHUNK = 4 << 20  # bytes
COMPRESSED = (".gz", ".zst")

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UNMARKED = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}
_WRONG = "\udcff"  # stands where bytes mean nothing in the encoding


class TruncatedError(Exception):
    """A compressed stream that ends, or breaks, before its end."""


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def ending(path: Path) -> str:
    """Return the ending that tells the format, without that of a compression.

    Examples
    --------
    >>> ending(Path("a/chats.JSONL.gz"))
    '.jsonl'
    """
    name = path.name.lower()
    return Path(name.removesuffix(".gz").removesuffix(".zst")).suffix


def whole(path: Path) -> bytes | Path:
    """Return the decompressed bytes of a file, or its path where it is not compressed.

    Raises
    ------
    TruncatedError
        Where a compressed stream breaks off.
    """
    with path.open("rb") as raw:
        stream = _decompressed(raw)
        return path if stream is raw else b"".join(_read(stream))


def chunks(path: Path, *, encoding: str = "auto") -> Iterator[bytes]:
    """Yield the text of a file as UTF-8 without its byte order mark, some megabytes at a time.

    Raises
    ------
    TruncatedError
        Where a compressed stream breaks off; what could be read was yielded before.
    """
    with path.open("rb") as raw:
        blocks = _read(_decompressed(raw))
        first = next(blocks, b"")
        mark, found = next(((mark, word) for mark, word in _MARKS if first.startswith(mark)), (b"", "utf-8"))
        word = found if encoding == "auto" or mark else _UNMARKED.get(name := codecs.lookup(encoding).name, name)
        if word in ("utf-8", "ascii"):
            yield first[len(mark) :]
            yield from blocks
            return
        decoder = codecs.getincrementaldecoder(word)(_HANDLER)
        yield _utf8(decoder.decode(first[len(mark) :]))
        for block in blocks:
            yield _utf8(decoder.decode(block))
        yield _utf8(decoder.decode(b"", True))


def _read(stream: _Stream) -> Iterator[bytes]:
    """Yield a stream's blocks; where it breaks, the last one ends with the last byte that could be had."""
    held = bytearray()
    try:
        while piece := stream.read(CHUNK):
            if len(piece) == CHUNK and not held:
                yield piece
                continue
            held += piece
            if len(held) >= CHUNK:
                yield bytes(held)
                held.clear()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield bytes(held)
        raise TruncatedError(str(error)) from None
    if held:
        yield bytes(held)


def _decompressed(raw: io.BufferedReader) -> _Stream:
    head = raw.peek(4)
    if head.startswith(b"\x1f\x8b"):
        return _Gzip(fileobj=raw, mode="rb")
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _Zstd(raw.name)
    return raw


class _Gzip(gzip.GzipFile):
    """A gzip stream that hands out what it has before it says that the rest is missing."""

    def read(self, size: int | None = -1, /) -> bytes:
        return self.read1(-1 if size is None else size)


class _Zstd:
    """A zstd stream that hands out all that can be had before it says that the rest is missing."""

    def __init__(self, path: str) -> None:
        import pyarrow as pa

        self._open: Callable[[], Any] = lambda: pa.input_stream(path, compression="zstd")
        self._stream, self._position, self._most = self._open(), 0, 1 << 16

    def read(self, size: int, /) -> bytes:
        try:
            piece: bytes = self._stream.read(min(size, self._most))
        except OSError as error:
            if error.errno is not None:
                raise
            if self._most == 1:
                raise EOFError(str(error)) from None
            self._byte_by_byte()
            return self.read(size)
        self._position += len(piece)
        return piece

    def _byte_by_byte(self) -> None:
        """Begin again where the last good read ended: the read that fails takes with it what it had."""
        self._stream, left = self._open(), self._position
        while left:
            left -= len(self._stream.read(min(left, self._most)))
        self._most = 1


def _mark_wrong(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _WRONG, error.end


_HANDLER = "composer-mark-wrong"
codecs.register_error(_HANDLER, _mark_wrong)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
