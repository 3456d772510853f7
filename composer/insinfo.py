"""InsInfo: how much an instruction's tags say, as InsCL weighs the instructions of earlier tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray


def insinfo(tags: Sequence[Collection[str]] | pl.Series) -> NDArray[np.float64]:
    """Return ``InsInfo(I) = sum over t in tags(I) of ln(N / f_t)``, in nats.

    N is the number of instructions given, tagged or not, and f_t the number of them that carry the tag t. The pool is the set
    given, so that f_t >= 1. Tags are a set: one that is repeated within an instruction counts once, and empty ones (which a
    cleaning of tags can leave behind) are dropped. An instruction without tags has zero.

    Parameters
    ----------
    tags
        (N,) the tags of each instruction; a column of TAGS is read as it is.

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
    row, flat = _flat(tags)
    words = flat.unique()
    words = words.filter(words.str.strip_chars() != "").sort()
    # Numbered in their sorted order, the tags of an instruction are summed in one order, whatever order a set came in.
    number = flat.cast(pl.Enum(words), strict=False).to_physical()
    tag = number.drop_nulls().to_numpy().astype(np.int64)
    pair = np.sort(row[number.is_not_null().to_numpy()] * max(len(words), 1) + tag)
    row, tag = np.divmod(pair[np.diff(pair, prepend=-1) > 0], max(len(words), 1))
    information = np.log(n / np.bincount(tag, minlength=len(words)))
    return np.bincount(row, weights=information[tag], minlength=n).astype(np.float64)


def _flat(tags: Sequence[Collection[str]] | pl.Series) -> tuple[NDArray[np.int64], pl.Series]:
    """Return all tags one after another, and of each the instruction that it belongs to."""
    if isinstance(tags, pl.Series):
        size, flat = tags.list.len().fill_null(0).to_numpy(), tags.explode(empty_as_null=False, keep_nulls=False)
    else:
        size = np.fromiter(map(len, tags), dtype=np.int64, count=len(tags))
        flat = pl.Series(list(chain.from_iterable(tags)), dtype=pl.String)
    return np.repeat(np.arange(len(tags)), size), flat
