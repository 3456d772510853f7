"""The same text: one and the same but for white space and the writing of accents."""

from __future__ import annotations

from typing import ClassVar, Literal

from composer.dedup.base import Dedup


class ExactDedup(Dedup):
    """Rows whose 128-bit key of the normalised text is equal; every other way begins with this one.

    Of a thousand million different rows, two share a key with a chance of 1e-21.

    Examples
    --------
    >>> import numpy as np, polars as pl
    >>> from composer.dedup.rows import Rows
    >>> rows = Rows(key=pl.Series([b"x", b"y", b"x"]), rank=np.arange(3), fixed=np.zeros(3, bool), texts=lambda: iter(()))
    >>> ExactDedup().originals(rows)[1].tolist()
    [0, 1, 0]
    """

    name: Literal["exact"] = "exact"
    summary: ClassVar[str] = "equal normalised text"
    reason: ClassVar[str] = "duplicate_across_sources"
