"""Clouds of weighted points, and the base of the distances between them.

A cloud is a measure: rows that are equal are one point, their order means nothing and only ratios of weights count. A cloud is
therefore brought into one form when it is made, and every distance is a function of that form; splitting or permuting rows
then changes no digit of any distance.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.errors import InputError
from composer.spec import Spec


class Estimate(NamedTuple):
    """A distance and what is known of its error.

    ``stderr`` is its standard error, zero where nothing was drawn; ``low`` and ``high`` a proven interval; ``repeats`` the
    distances whose mean it is; ``excess`` the scale of what subsamples add to it (see :class:`Subsampled`). What a distance
    does not give is None.
    """

    value: float
    stderr: float
    low: float | None = None
    high: float | None = None
    repeats: tuple[float, ...] | None = None
    excess: float | None = None


@dataclass(frozen=True, eq=False, init=False)
class Cloud:
    """Weighted points: ``vectors`` (m, d) float32, distinct and sorted; ``weights`` (m,) float64, above zero, with sum one.

    It is made of any rows and weights of any scale (the same for all rows when absent): equal rows are joined, and rows without
    weight are left out.

    Raises
    ------
    InputError
        For vectors that are no finite matrix with rows, and weights that do not fit or weigh nothing.

    Examples
    --------
    >>> Cloud([[1, 0], [0, 1], [1, 0]], [1, 1, 2]).weights.tolist()
    [0.25, 0.75]
    """

    vectors: NDArray[np.float32]
    weights: NDArray[np.float64]

    def __init__(self, vectors: ArrayLike, weights: ArrayLike | None = None) -> None:
        x = np.asarray(vectors, dtype=np.float32)
        if x.ndim != 2 or 0 in x.shape or not np.isfinite(x).all():
            raise InputError("vectors that are no cloud", where="similarity", expected="a finite matrix with rows", got=x.shape)
        w = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
        if w.shape != (len(x),) or not np.isfinite(w).all() or (w < 0).any() or not w.any():
            expected = f"{len(x)} finite numbers, none negative, one above zero"
            raise InputError("weights that do not fit a cloud", where="similarity", expected=expected, got=w.tolist()[:8])
        kept = w > 0
        points, which = joined(x if kept.all() else x[kept])
        mass = np.bincount(which, weights=w[kept])
        object.__setattr__(self, "vectors", points)
        object.__setattr__(self, "weights", mass / mass.sum())

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def digest(self) -> str:
        """The blake2b digest of vectors and weights, 16 hex digits: equal for clouds that are equal to the bit."""
        found = hashlib.blake2b(repr(self.vectors.shape).encode(), digest_size=8)
        found.update(self.vectors.data)
        found.update(self.weights.data)
        return found.hexdigest()


def joined(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the distinct rows of x (m, d) in the order of their bytes, and to which of them each row belongs, int64 (m,).

    The rows are sorted once and gathered once: ``np.unique`` would copy wide rows several times.
    """
    x = np.ascontiguousarray(x + np.float32(0))  # the sum turns -0 into 0, so that equal rows have equal bytes
    row = np.dtype((np.void, x.itemsize * x.shape[1]))
    order = x.view(row).ravel().argsort(kind="stable")
    x = x[order]
    rows = x.view(row).ravel()
    first = np.concatenate([[True], rows[1:] != rows[:-1]])
    which = np.empty(len(x), dtype=np.int64)
    which[order] = np.cumsum(first) - 1
    return x if first.all() else x[first], which


class Distance(Spec):
    """A distance between two clouds. A member gives ``measure``, a function of clouds alone.

    ``weighting`` says how the instructions of a domain weigh in its cloud: ``real`` by their samples, ``uniform`` all the same.
    """

    name: str
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = ""

    weighting: Literal["real", "uniform"] = "real"

    def between(self, x: ArrayLike, y: ArrayLike, *, wx: ArrayLike | None = None, wy: ArrayLike | None = None) -> float:
        """Return the distance between the rows of x and those of y.

        Parameters
        ----------
        x, y
            (m, d) and (n, d) vectors.
        wx, wy
            (m,) and (n,) weights of any scale; the same for all rows when absent.
        """
        return self.estimate(Cloud(x, wx), Cloud(y, wy)).value

    def estimate(self, a: Cloud, b: Cloud) -> Estimate:
        """Return the distance between two clouds with what is known of its error; which one comes first changes no bit."""
        return self.measure(*sorted((a, b), key=lambda cloud: cloud.digest))

    def measure(self, a: Cloud, b: Cloud) -> Estimate:
        """Return the distance between two clouds, given in the order of their digests."""
        raise NotImplementedError
