"""Texts to MinHash bands, and bands to buckets: the rows that are worth a look.

The signatures are rensa's R-MinHash, the fastest of the libraries in ``benchmarks/near_duplicates.py``. It is handed all
n-grams of a slice as one array of hashes, so that no word becomes a Python object. Of a signature only one number for each
band is kept; numpy sorts them, which finds every bucket of a table of any size without an index in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from composer.dedup.ngrams import chunks, ngrams
from composer.progress import bar

if TYPE_CHECKING:
    import polars as pl

ROWS = 100  # whose minima are Python integers at a time: few enough to stay in the processor's cache
_ODD = np.uint64(0x9E3779B97F4A7C15)


def signatures(texts: Iterator[pl.Series], *, n: int, bands: int, width: int, seed: int, total: int) -> NDArray[np.uint64]:
    """Return (bands, rows) uint64: for each band of a text's signature a hash of its ``width`` minima."""
    out = np.empty((bands, total), dtype=np.uint64)
    begin = 0
    with bar("minhash", total=total) as shown:
        for slice_ in texts:
            for chunk in chunks(slice_):
                minima = _minima(chunk, n=n, size=bands * width, seed=seed).reshape(len(chunk), bands, width)
                hashed = np.zeros((len(chunk), bands), dtype=np.uint64)
                for k in range(width):
                    hashed = (hashed + minima[:, :, k]) * _ODD
                    hashed ^= hashed >> np.uint64(29)
                out[:, begin : begin + len(chunk)] = hashed.T
                begin += len(chunk)
                shown.advance(len(chunk))
    return out


def _minima(texts: pl.Series, *, n: int, size: int, seed: int) -> NDArray[np.uint32]:
    from rensa import RMinHash

    grams = ngrams(texts, n, symbols=True)
    out = np.empty((len(texts), size), dtype=np.uint32)
    for begin in range(0, len(texts), ROWS):
        offsets = grams.offsets[begin : begin + ROWS + 1]
        hashes = grams.hashes[offsets[0] : offsets[-1]]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, (offsets - offsets[0]).astype(np.uint64), size, seed)
        flat = chain.from_iterable(matrix.to_rows())
        out[begin : begin + ROWS] = np.fromiter(flat, dtype=np.uint32).reshape(-1, size)
    return out


def bucket_ids(hashed: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return (rows, bands) int32: the number of the bucket that a row shares with others in a band, -1 where it is alone.

    Buckets are numbered through all bands.

    Examples
    --------
    >>> bucket_ids(np.array([[7, 8, 7], [1, 1, 1]], dtype=np.uint64)).tolist()
    [[0, 1], [-1, 1], [0, 1]]
    """
    bands, n = hashed.shape
    out = np.full((n, bands), -1, dtype=np.int32)
    used = 0
    for band in range(bands):
        order = np.argsort(hashed[band], kind="stable")
        found = hashed[band][order]
        begins = np.flatnonzero(np.r_[True, found[1:] != found[:-1]]) if n else np.zeros(0, dtype=np.int64)
        sizes = np.diff(np.r_[begins, n])
        is_shared = sizes > 1
        numbers = np.where(is_shared, used + np.cumsum(is_shared) - 1, -1)
        out[order, band] = np.repeat(numbers, sizes)
        used += int(is_shared.sum())
    return out
