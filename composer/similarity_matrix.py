"""Distances between all domains, with what is known of their error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from composer.errors import SpecError
from composer.spec import Spec

if TYPE_CHECKING:
    import numpy as np

Rows = tuple[tuple[float, ...], ...]


class SimilarityMatrix(Spec):
    """Distances (or similarities) between domains: ``value`` is ``D x D``, symmetric, and zero on the diagonal of distances.

    What else is known is ``D x D`` as well: ``stderr`` the standard errors, ``low`` and ``high`` a proven interval around every
    value, ``repeats`` the values of every repeat of a subsampled distance (repeat r of all pairs was drawn with the same random
    numbers), and ``excess`` how much the value still falls when the subsamples are made larger, a scale and no correction.
    ``clouds`` are the digests of what was compared, in the order of the domains.

    Raises
    ------
    SpecError
        For a matrix that is not square, not finite or not symmetric, a value outside its interval, and a distance that is not
        zero between a domain and itself.
    """

    domains: tuple[str, ...]
    value: Rows
    kind: Literal["distance", "similarity"] = "distance"
    measure: str
    stderr: Rows | None = None
    low: Rows | None = None
    high: Rows | None = None
    repeats: tuple[Rows, ...] | None = Field(default=None, min_length=2)
    excess: Rows | None = None
    clouds: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> SimilarityMatrix:
        d = len(self.domains)
        values = [("value", self.value), *((f"repeats.{r}", rows) for r, rows in enumerate(self.repeats or ()))]
        bounds = [(name, rows) for name, rows in (("low", self.low), ("high", self.high)) if rows is not None]
        errors = [(name, rows) for name, rows in (("stderr", self.stderr), ("excess", self.excess)) if rows is not None]
        for name, rows in (*values, *bounds, *errors):
            _check_symmetric(rows, d, where="" if name == "value" else name)
        for name, rows in (*values, *bounds):
            if self.kind == "distance" and any(rows[i][i] != 0 for i in range(d)):
                where = "" if name == "value" else name
                raise SpecError("a distance must be zero between a domain and itself", where=where)
        self._check_errors()
        if self.clouds is not None and len(self.clouds) != d:
            raise SpecError("a digest per domain is needed", where="clouds", expected=f"{d}", got=len(self.clouds))
        return self

    def _check_errors(self) -> None:
        if self.stderr is not None and any(error < 0 for row in self.stderr for error in row):
            raise SpecError("a standard error is never negative", where="stderr")
        if (self.low is None) != (self.high is None):
            raise SpecError("an interval needs both ends", where="low", expected="low and high, or neither")
        if self.low is None or self.high is None:
            return
        for lows, row, highs in zip(self.low, self.value, self.high, strict=True):
            for low, value, high in zip(lows, row, highs, strict=True):
                if not low <= value <= high:
                    raise SpecError("a value outside its interval", where="low", expected="low <= value <= high", got=value)

    def between(self, a: str, b: str) -> float:
        """Return the entry of two domains by name."""
        return self.value[self.domains.index(a)][self.domains.index(b)]


def _check_symmetric(rows: Rows, d: int, *, where: str) -> None:
    if len(rows) != d or any(len(row) != d for row in rows):
        raise SpecError("a similarity matrix must be square", where=where, expected=f"{d} x {d}")
    if not all(math.isfinite(v) for row in rows for v in row):
        raise SpecError("a similarity matrix must be finite", where=where)
    if any(rows[i][j] != rows[j][i] for i in range(d) for j in range(i)):
        raise SpecError("a similarity matrix must be symmetric", where=where)


def side_by_side(value: np.ndarray) -> np.ndarray:
    """Return an order in which near domains stand side by side: the leaves of an average linkage of ``D x D`` distances.

    Returns
    -------
    (D,) int64, a permutation.

    References
    ----------
    Bar-Joseph et al., Fast optimal leaf ordering for hierarchical clustering (Bioinformatics 2001).

    Examples
    --------
    >>> import numpy as np
    >>> side_by_side(np.array([[0, 9, 1], [9, 0, 8], [1, 8, 0]])).tolist()
    [1, 2, 0]
    """
    import numpy as np
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(value) < 3:
        return np.arange(len(value))
    order: Any = leaves_list(linkage(squareform(value, checks=False), "average", optimal_ordering=True))
    return np.asarray(order, dtype=np.int64)
