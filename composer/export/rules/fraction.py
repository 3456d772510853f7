"""Shares of the final mixture that repeat nothing: the first rows of every file, as many as the scarcest file allows. TRL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from composer.errors import InputError
from composer.export.rules import Numbers, concatenated


def fraction(sizes: Sequence[int], shares: Sequence[float]) -> Numbers:
    """Return the first ``round(w * n)`` row numbers of every file, ``w`` its share and ``n`` the least of ``size / w``.

    Raises
    ------
    InputError
        Where shares are not one per file, or none is above 0.

    References
    ----------
    TRL 1.16, ``DatasetMixtureConfig``.

    Examples
    --------
    >>> fraction([4, 10], [0.5, 0.5]).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    if len(shares) != len(sizes) or min(shares, default=0) < 0 or not sum(shares):
        raise InputError("not one share per file with one above 0", where="fraction", got=list(shares))
    weights = [share / sum(shares) for share in shares]
    n = min(size / weight for size, weight in zip(sizes, weights, strict=True) if weight > 0)
    return concatenated([np.arange(round(weight * n)) for weight in weights], sizes)
