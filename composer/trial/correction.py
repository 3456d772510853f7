"""Correction for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return the p values corrected for their number, so that the chance of any false finding stays below the level.

    In rising order ``p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j))`` for m values. A value that is not known stays
    so, and counts as one of the m.

    References
    ----------
    Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979), section 2.

    Examples
    --------
    >>> holm([0.02, 0.5, 0.25, None])
    [0.08, 1.0, 0.75, None]
    """
    out: list[float | None] = [None] * len(p)
    largest = 0.0
    known = sorted((value, i) for i, value in enumerate(p) if value is not None)
    for rank, (value, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(p) - rank) * value))
        out[i] = largest
    return out
