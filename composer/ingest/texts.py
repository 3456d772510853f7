"""A column of texts as the bytes it lies in, so that millions of characters are looked at in a few passes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.ingest.turns import CONTROL

_SPACE = 32
_FIRST, _LAST = 33, 126  # the printable ASCII characters but the space
_BLANKS = b"\xe1\xe2\xe3"  # first bytes of white space beyond Latin-1, and of other characters
_IS_INK = np.array([_FIRST <= i <= _LAST or (0xC3 <= i <= 0xF4 and i not in _BLANKS) for i in range(256)])
_IS_CONTROL = np.array([bool(CONTROL.match(chr(i))) for i in range(128)] + [False] * 128)


@dataclass(frozen=True)
class Texts:
    """Texts one after the other; a null is an empty text here.

    Examples
    --------
    >>> texts = Texts.of(pl.Series(["plain", "two  spaces", "a\\x00b"]))
    >>> texts.unusual.tolist(), texts.controlled.tolist()
    ([1, 2], [2])
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
    def data(self) -> bytes:
        """The bytes of all texts."""
        first = int(np.frombuffer(self.array.buffers()[1], dtype=np.int64)[self.array.offset])
        return bytes(memoryview(self.array.buffers()[2] or b"")[first : first + int(self.offsets[-1])])

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.data, dtype=np.uint8)

    @cached_property
    def _odd(self) -> NDArray[np.int64]:
        """Places of bytes that are neither printable ASCII nor a space."""
        return np.flatnonzero((self._bytes - np.uint8(_SPACE)) > _LAST - _SPACE)

    def _texts_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.unique(np.searchsorted(self.offsets[1:], places, side="right"))

    @cached_property
    def controlled(self) -> NDArray[np.int64]:
        """Which texts hold a control character."""
        return self._texts_at(self._odd[_IS_CONTROL[self._bytes[self._odd]]])

    @cached_property
    def unusual(self) -> NDArray[np.int64]:
        """Which texts are not printable ASCII, or have a run of spaces or a space at an end."""
        is_space = self._bytes == _SPACE
        runs = np.flatnonzero(is_space[1:] & is_space[:-1])
        begins, ends = self.offsets[:-1], self.offsets[1:]
        full = ends > begins
        edge = np.zeros(len(begins), dtype=np.bool_)
        edge[full] = is_space[begins[full]] | is_space[ends[full] - 1]
        return np.union1d(self._texts_at(np.concatenate([self._odd, runs])), np.flatnonzero(edge))

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

    def at(self, which: NDArray[np.int64]) -> list[str]:
        """Return the chosen texts."""
        return list(self.array.take(arrow(which)).to_pylist())


def arrow(values: NDArray[Any]) -> Any:
    """Return an Arrow array of numbers, by way of polars: pyarrow's own way imports pandas, for a second and 80 MB."""
    return pl.Series(values).to_arrow()
