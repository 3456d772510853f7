"""How trainers draw rows from several files, on row numbers alone: one rule a file, written from what the trainers say they do.

A row number counts through all files, one after another, in the order in which the trainer's config names them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def starts(sizes: Sequence[int]) -> Numbers:
    """Return the row number at which every file begins.

    Examples
    --------
    >>> starts([3, 4, 2]).tolist()
    [0, 3, 7]
    """
    return np.cumsum([0, *sizes[:-1]], dtype=np.int64)


def concatenated(parts: Sequence[Numbers], sizes: Sequence[int]) -> Numbers:
    """Return what is drawn of every file, places within that file, as row numbers one file after another.

    Examples
    --------
    >>> concatenated([np.array([0, 2]), np.array([1])], [3, 4]).tolist()
    [0, 2, 4]
    """
    return np.concatenate([part + start for part, start in zip(parts, starts(sizes), strict=True)]).astype(np.int64)
