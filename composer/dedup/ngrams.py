"""Texts as hashed n-grams of words: what near copies are measured by and evaluation texts are found by.

A word is a run of letters, digits and marks, without its case. Scripts that write no spaces have no such runs that mean
anything: there every character is a word, so that n-grams of words are n-grams of characters. What is neither a word nor a
space (punctuation, operators, emoji) is a word of its own or nothing, as the asker wants: ``3 + 4`` and ``3 - 4`` differ, but a
comma does not hide a copied sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
CHUNK = 2_000_000  # bytes of text whose words are in memory at a time

_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: multiplication by it is a bijection that mixes upwards


class Grams(NamedTuple):
    """Hashed n-grams of m texts, one after the other: those of text i stand at ``offsets[i]`` to ``offsets[i + 1]``.

    ``hashes`` is (g,) uint64 and ``offsets`` (m + 1,) int64; every text has at least one.
    """

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]


def words(texts: pl.Series, *, symbols: bool) -> tuple[pl.Series, NDArray[np.int64]]:
    """Return the words of all texts in one series, and the (m + 1,) places at which each text's words begin and end.

    Examples
    --------
    >>> found, places = words(pl.Series(["It's  3+4.", "漢字"]), symbols=True)
    >>> found.to_list(), places.tolist()
    (['it', "'", 's', '3', '+', '4', '.', '漢', '字'], [0, 7, 9])
    >>> words(pl.Series(["It's  3+4."]), symbols=False)[0].to_list()
    ['it', 's', '3', '4']
    """
    lower = texts.str.to_lowercase().str.replace_all(r"[^\S ]", " ")
    if symbols:
        spaced = lower.str.replace_all(rf"[^\w ]|[{UNSPACED}]", " ${0} ")
    else:
        spaced = lower.str.replace_all(r"[^\w ]", " ").str.replace_all(rf"[{UNSPACED}]", " ${0} ")
    pieces = spaced.str.split(" ")
    flat = pieces.explode(keep_nulls=False, empty_as_null=False)
    is_word = (flat != "").to_numpy()
    ends = np.concatenate([[0], np.cumsum(pieces.list.len().to_numpy(), dtype=np.int64)])
    before = np.concatenate([[0], np.cumsum(is_word, dtype=np.int64)])
    return flat.filter(flat != ""), before[ends]


def ngrams(texts: pl.Series, n: int, *, symbols: bool, seed: int = 0) -> Grams:
    """Return the hashed n-grams of each text; a text of fewer words is one gram of all that it has.

    The hash of words ``w_1 .. w_n`` is the polynomial ``sum_k h(w_k) c^(n - k)`` modulo ``2**64``. Another ``seed`` gives other
    hashes h and an independent second opinion. Hashes are the same on one version of polars.

    Examples
    --------
    >>> grams = ngrams(pl.Series(["a b c d", "B c  D", "d", ""]), 3, symbols=True)
    >>> grams.offsets.tolist(), bool(grams.hashes[1] == grams.hashes[2])
    ([0, 2, 3, 4, 5], True)
    """
    flat, places = words(texts, symbols=symbols)
    hashed = flat.hash(seed).to_numpy()
    n_words = np.diff(places)
    n_grams = np.maximum(n_words - n + 1, 1)
    offsets = np.concatenate([[0], np.cumsum(n_grams, dtype=np.int64)])
    is_long = n_words >= n
    out = np.zeros(offsets[-1], dtype=np.uint64)
    out[np.repeat(is_long, n_grams)] = _rolled(hashed, places, n)
    for length in range(1, n):
        short = np.flatnonzero(n_words == length)
        for k in range(length):
            out[offsets[short]] = out[offsets[short]] * _ODD + hashed[places[short] + k]
    return Grams(out, offsets)


def _rolled(hashed: NDArray[np.uint64], places: NDArray[np.int64], n: int) -> NDArray[np.uint64]:
    """Return the polynomials of all n words in a row that stand in one text."""
    n_windows = max(len(hashed) - n + 1, 0)
    out = np.zeros(n_windows, dtype=np.uint64)
    for k in range(n):
        out *= _ODD
        out += hashed[k : k + n_windows]
    inside = np.ones(n_windows, dtype=np.bool_)
    for k in range(1, n):  # a window that begins less than n words before a text's end runs into the next text
        crossing = places[1:] - k
        inside[crossing[(crossing >= 0) & (crossing < n_windows)]] = False
    return out[inside]


def chunks(texts: pl.Series) -> Iterator[pl.Series]:
    """Yield the texts in order, a few megabytes at a time, or a single text where one is longer than that."""
    chunk = (texts.str.len_bytes().cum_sum() // CHUNK).to_numpy()
    edges = np.flatnonzero(np.diff(chunk, prepend=-1, append=-1)) if len(texts) else np.zeros(1, dtype=np.int64)
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield texts[begin:end]
