"""How sure a share is: resamples of what was measured, and the distribution that comes of them.

A resample draws as many rows as there are, with replacement. It stands for another sample of such texts and for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from composer.types import KnowledgeDistribution

_RESAMPLES = 1000
_BLOCK = 100  # resamples that are held as counts at once


@dataclass(frozen=True, eq=False)
class Spread:
    """Standard error and 95 % interval, each of the shape of what was resampled."""

    stderr: np.ndarray
    low: np.ndarray
    high: np.ndarray


def resampled(rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the means of a thousand resamples of the rows, float64 (n, m), as float64 (1000, m).

    Examples
    --------
    >>> resampled(np.array([[2.0, 1.0], [2.0, 3.0]]), np.random.default_rng(0))[:, 0].tolist() == [2.0] * 1000
    True
    """
    even = np.full(len(rows), 1 / len(rows))
    blocks = [random.multinomial(len(rows), even, size=_BLOCK) @ rows for _ in range(_RESAMPLES // _BLOCK)]
    return np.concatenate(blocks) / len(rows)


def spread(again: np.ndarray) -> Spread:
    """Return the spread of resamples, float64 (resamples, ...), along their first axis."""
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    return Spread(again.std(axis=0, ddof=1), low, high)


def distribution(
    share: np.ndarray, again: np.ndarray, *, domains: Sequence[str], n: int, rejected: int, probe: str
) -> KnowledgeDistribution:
    """Return shares (D,) with the spread of their resamples (resamples, D)."""
    found = spread(again)
    return KnowledgeDistribution(
        domains=tuple(domains), p=floats(share / share.sum()), stderr=floats(found.stderr), low=floats(found.low),
        high=floats(found.high), n=n, rejected=rejected, probe=probe,
    )  # fmt: skip


def floats(values: np.ndarray) -> tuple[float, ...]:
    """Return the values as plain numbers."""
    return tuple(float(value) for value in values)
