"""The n-grams of an evaluation set, as sorted hashes: 64 bits find, another 64 confirm."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.dedup.ngrams import Grams, chunks, ngrams, words

CONFIRM = 1  # seed of the second hash


@dataclass(frozen=True)
class Known:
    """The n-grams of a set's texts, and its short texts as one gram each.

    ``hashes`` (g,) uint64 is sorted; ``confirm`` (g,) uint64 is the other half of each.

    Examples
    --------
    >>> known = Known.of([pl.Series(["What is the capital of France?", "Paris", "a b c d e f g h"])], n=7, shortest=5)
    >>> known.n_texts, len(known.hashes), known.too_short
    (2, 3, 1)
    >>> row, _ = known.find(Said(pl.Series(["no", "Hello!\\nWhat is the capital of FRANCE", "So: b c d, e f g h i."]), 7))
    >>> sorted(row.tolist())
    [1, 2]
    """

    n: int
    hashes: NDArray[np.uint64]
    confirm: NDArray[np.uint64]
    n_texts: int
    too_short: int
    has_short: bool

    @classmethod
    def of(cls, slices: Iterable[pl.Series], *, n: int, shortest: int) -> Known:
        """Gather the n-grams of texts, a slice at a time."""
        hashes, confirm = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint64)
        n_texts = too_short = 0
        has_short = False
        for texts in (chunk for slice_ in slices for chunk in chunks(slice_)):
            length = _n_words(texts)
            lines = _lines(texts.filter(pl.Series(length < n)))[0]
            length_of_line = _n_words(lines)
            short = lines.filter(pl.Series((length_of_line >= shortest) & (length_of_line < n)))
            has_short |= len(short) > 0
            n_texts += int((length >= n).sum()) + len(short)
            too_short += len(lines) - len(short)
            wanted = pl.concat([texts.filter(pl.Series(length >= n)), short])
            hashes = np.concatenate([hashes, ngrams(wanted, n, symbols=False).hashes])
            confirm = np.concatenate([confirm, ngrams(wanted, n, symbols=False, seed=CONFIRM).hashes])
            hashes, first = np.unique(hashes, return_index=True)
            confirm = confirm[first]
        return cls(n, hashes, confirm, n_texts, too_short, has_short)

    def find(self, said: Said) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the places where n-grams or short texts stand: the number of the text and that of the gram, place by place."""
        row, gram = self._find(said.texts, said.grams, self.n)
        if not self.has_short:
            return row, gram
        lines, owner, grams = said.lines
        of_line, whole = self._find(lines, grams, self.n - 1)
        is_whole = np.diff(grams.offsets)[of_line] == 1  # of n words there are two grams of n - 1
        return np.concatenate([row, owner[of_line[is_whole]]]), np.concatenate([gram, whole[is_whole]])

    def _find(self, texts: pl.Series, grams: Grams, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        place = np.searchsorted(self.hashes, grams.hashes)
        place[place == len(self.hashes)] = 0
        hit = self.hashes[place] == grams.hashes if len(self.hashes) else np.zeros(len(place), dtype=np.bool_)
        text = np.repeat(np.arange(len(texts)), np.diff(grams.offsets))
        worth = np.zeros(len(texts), dtype=np.bool_)
        worth[text[hit]] = True
        among = worth[text]
        second = ngrams(texts.filter(pl.Series(worth)), n, symbols=False, seed=CONFIRM).hashes
        sure = hit[among] & (self.confirm[place[among]] == second) if len(second) else hit[among]
        return text[among][sure], place[among][sure]


class Said:
    """Texts with their n-grams, and their lines with the grams that tell whole short ones; hashed once for all sets."""

    def __init__(self, texts: pl.Series, n: int) -> None:
        self.texts, self.n = texts, n
        self.grams = ngrams(texts, n, symbols=False)

    @cached_property
    def lines(self) -> tuple[pl.Series, NDArray[np.int64], Grams]:
        """The lines of the texts, the number of the text of each, and their grams of one word less."""
        lines, owner = _lines(self.texts)
        return lines, owner, ngrams(lines, self.n - 1, symbols=False)


def _n_words(texts: pl.Series) -> NDArray[np.int64]:
    return np.diff(words(texts, symbols=False)[1])


def _lines(texts: pl.Series) -> tuple[pl.Series, NDArray[np.int64]]:
    """Return the lines of texts, and the number of the text of each."""
    lines = texts.str.split("\n")
    owner = np.repeat(np.arange(len(texts)), lines.list.len().to_numpy())
    return lines.explode(keep_nulls=False, empty_as_null=False), owner
