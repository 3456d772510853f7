"""A column of texts as the bytes it lies in, so that millions of characters are looked at in a few passes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

_TAB, _RETURN, _SPACE, _ASCII = 9, 13, 32, 127
_VERTICAL = np.array([11, 12], dtype=np.uint8)  # vertical tab and form feed
_FIRST, _LAST = 33, 126  # the printable ASCII characters but the space
_BLANKS = b"\xe1\xe2\xe3"  # first bytes of white space beyond Latin-1, and of other characters
# Characters that are neither white space nor changed by NFC, alone or before a mark of their own kind. By their first byte:
# bytes that follow, Latin, Cyrillic, U+4000 to U+9FFF, Hangul; by their first three: dashes and quotation marks, kana, emoji.
_IS_EVEN = np.isin(np.arange(256), [*range(0x80, 0xC0), *range(0xC3, 0xCC), 0xD0, 0xD1, *range(0xE4, 0xEA), 0xEB, 0xEC])
_EVEN = (
    (0xE2, 0x80, 0x90, 0xA7), (0xE3, 0x81, 0x80, 0xBF), (0xE3, 0x82, 0x80, 0x98), (0xE3, 0x82, 0x9B, 0xBF),
    (0xE3, 0x83, 0x80, 0xBF), (0xF0, 0x9F, 0x80, 0xBF),
)  # fmt: skip
_FEW = 256  # bytes for one that goes
_IS_INK = np.array([_FIRST <= i <= _LAST or (0xC3 <= i <= 0xF4 and i not in _BLANKS) for i in range(256)])


@dataclass(frozen=True)
class Texts:
    """Texts one after the other; a null is an empty text here.

    Examples
    --------
    >>> texts = Texts.of(pl.Series(["plain", "two  spaces", "a\\x00b"]))
    >>> texts.spaced[0], texts.controlled.tolist()
    (b'plaintwo spacesa\\x00b', [2])
    """

    array: Any  # pa.LargeStringArray

    @classmethod
    def of(cls, texts: Any) -> Texts:
        """Return the texts of a polars Series or an Arrow array."""
        import pyarrow as pa

        array = texts.to_arrow(compat_level=pl.CompatLevel.oldest()) if isinstance(texts, pl.Series) else texts
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        return cls(array if pa.types.is_large_string(array.type) else array.cast(pa.large_string()))

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each text begins in :attr:`data`, and where the last ends."""
        every = np.frombuffer(self.array.buffers()[1], dtype=np.int64)
        mine = every[self.array.offset : self.array.offset + len(self.array) + 1]
        return np.asarray(mine - mine[0])

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        first = int(np.frombuffer(self.array.buffers()[1], dtype=np.int64)[self.array.offset])
        return np.frombuffer(self.array.buffers()[2] or b"", dtype=np.uint8)[first : first + int(self.offsets[-1])]

    def text(self, begin: int, end: int) -> str:
        """Return the text between two places."""
        return self._bytes[begin:end].tobytes().decode()

    def _texts_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.unique(np.searchsorted(self.offsets[1:], places, side="right"))

    @cached_property
    def _low(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where ASCII white space stands that is no space, and where control characters stand."""
        places = np.flatnonzero(self._bytes < _SPACE)
        is_white = self._bytes[places] - np.uint8(_TAB) <= _RETURN - _TAB
        return places[is_white], places[~is_white]

    @cached_property
    def controlled(self) -> NDArray[np.int64]:
        """Which texts hold a control character, tabs and what breaks a line not counted."""
        white, control = self._low
        return self._texts_at(np.append(control, white[np.isin(self._bytes[white], _VERTICAL)]))

    @cached_property
    def spaced(self) -> tuple[bytes, NDArray[np.int64]]:
        """All bytes with each run of ASCII white space as one space, none at the beginning of a text, and where texts begin."""
        every = self._bytes.copy()
        every[self._low[0]] = _SPACE
        is_white = every == _SPACE
        follows = np.empty_like(is_white)
        follows[1:] = is_white[:-1]
        follows[self.offsets[:-1][np.diff(self.offsets) > 0]] = True  # a text begins as if white space stood before it
        follows &= is_white
        gone = np.flatnonzero(follows)
        return _without(every, gone), self.offsets - np.searchsorted(gone, self.offsets)

    @cached_property
    def uneven(self) -> NDArray[np.int64]:
        """Which texts may not be in their normal form when they are spaced: for their end, or for a character beyond ASCII."""
        data, at = self.spaced
        last = np.frombuffer(data, dtype=np.uint8)[np.maximum(at[1:] - 1, 0)] if data else np.zeros(len(at) - 1, dtype=np.uint8)
        ragged = np.flatnonzero((last == _SPACE) & (np.diff(at) > 0))
        beyond = np.flatnonzero(self._bytes > _ASCII)
        beyond = beyond[~_IS_EVEN[self._bytes[beyond]]]
        return np.union1d(self._texts_at(beyond[~self._is_even(beyond)]), ragged)

    def _is_even(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return where characters begin that are known to be even by their first three bytes."""
        first, second, third = (self._bytes[np.minimum(places + i, len(self._bytes) - 1)] for i in range(3))
        ranges = [(first == a) & (second == b) & (third >= least) & (third <= most) for a, b, least, most in _EVEN]
        return np.asarray(np.logical_or.reduce(ranges))

    def says(self, which: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each of the chosen texts surely has, in its first bytes, a character that is not white space.

        Whoever asks takes a False as "not surely".
        """
        begins, ends = self.offsets[which], self.offsets[which + 1]
        found = np.zeros(len(which), dtype=np.bool_)
        if not len(self._bytes):
            return found
        for i in range(4):
            inside = begins + i < ends
            found |= inside & _IS_INK[self._bytes[np.minimum(begins + i, len(self._bytes) - 1)]]
            if found.all():
                break
        return found


def _without(every: NDArray[np.uint8], gone: NDArray[np.int64]) -> bytes:
    """Return the bytes but those at some places: what lies between a few places is joined, many are masked."""
    if len(gone) * _FEW > len(every):
        return np.delete(every, gone).tobytes()
    data, places = every.data, gone.tolist()
    return b"".join(data[a:b] for a, b in zip([0, *(i + 1 for i in places)], [*places, len(data)], strict=True))


def arrow(values: NDArray[Any]) -> Any:
    """Return an Arrow array of numbers, by way of polars: pyarrow's own way imports pandas, for a second and 80 MB."""
    return pl.Series(values).to_arrow()


def numbers(array: Any) -> NDArray[Any]:
    """Return the whole numbers of an Arrow array without nulls; pyarrow's own way imports pandas as well."""
    every = np.frombuffer(array.buffers()[1], dtype=np.dtype(str(array.type)))
    return every[array.offset : array.offset + len(array)]
