"""InsInfo: how much an instruction's tags say, as InsCL weighs the instructions of earlier tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray


def insinfo(tags: Sequence[Collection[str]]) -> NDArray[np.float64]:
    """Return ``InsInfo(I) = sum over t in tags(I) of ln(N / f_t)``, in nats.

    N is the number of instructions given, tagged or not, and f_t the number of them that carry the tag t. The pool is the set
    given, so that f_t >= 1. Tags are a set: one that is repeated within an instruction counts once, and empty ones (which a
    cleaning of tags can leave behind) are dropped. An instruction without tags has zero.

    Parameters
    ----------
    tags
        (N,) the tags of each instruction.

    Returns
    -------
    (N,) float64, not negative.

    References
    ----------
    InsCL, arXiv:2403.11435, section on instruction information; previous and current instructions form one pool, as in the
    released code.

    Examples
    --------
    >>> insinfo([["A", "B"], ["A"], ["A", "C"], ["A", "B", "C"]]).round(6).tolist()
    [0.693147, 0.0, 0.693147, 1.386294]
    """
    n = len(tags)
    row = np.repeat(np.arange(n), np.fromiter(map(len, tags), dtype=np.int64, count=n))
    flat = pl.Series(list(chain.from_iterable(tags)), dtype=pl.String)
    full = flat.str.strip_chars() != ""
    # Numbered in their sorted order, the tags of an instruction are summed in one order, whatever order a set came in.
    words = flat.filter(full).unique().sort()
    tag = flat.filter(full).cast(pl.Enum(words)).to_physical().to_numpy().astype(np.int64)
    pair = np.sort(row[full.to_numpy()] * max(len(words), 1) + tag)
    row, tag = np.divmod(pair[np.diff(pair, prepend=-1) > 0], max(len(words), 1))
    information = np.log(n / np.bincount(tag, minlength=len(words)))
    return np.bincount(row, weights=information[tag], minlength=n).astype(np.float64)
