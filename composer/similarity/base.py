"""Clouds of weighted points, and the base of the distances between them.

A cloud is a measure: rows that are equal are one point, their order means nothing and only ratios of weights count. A cloud is
therefore brought into one form when it is made, and every distance is a function of that form; splitting or permuting rows
then changes no digit of any distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.errors import InputError
from composer.spec import Spec


class Estimate(NamedTuple):
    """A distance and its standard error, which is zero where the distance is exact."""

    value: float
    stderr: float


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
        x = np.ascontiguousarray(x[w > 0] + np.float32(0))  # the sum turns -0 into 0, so that equal rows have equal bytes
        rows = x.view(np.dtype((np.void, x.itemsize * x.shape[1]))).ravel()
        _, first, which = np.unique(rows, return_index=True, return_inverse=True)
        joined = np.bincount(which, weights=w[w > 0])
        object.__setattr__(self, "vectors", x[first])
        object.__setattr__(self, "weights", joined / joined.sum())

    def __len__(self) -> int:
        return len(self.vectors)


class Distance(Spec):
    """A distance between two clouds. A member gives ``estimate``, a function of clouds alone."""

    name: str
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = ""

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
        """Return the distance between two clouds with its standard error."""
        raise NotImplementedError
