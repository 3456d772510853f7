"""Near rows by cosine distance: who is nearest, and DBSCAN, without a table of all pairs.

Cosines are computed block by block in float32, and the few that rounding could put on the wrong side are computed again in
float64, so that an answer does not depend on how rows fall into blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from composer.errors import SpecError

BLOCK: Final = 1024  # rows whose cosines with all others are in memory at a time
SAME: Final = 1e-6  # cosines of float32 rows that differ by less are equal
_STRIP: Final = 256  # of pairs among the rows themselves; half a square of this size is computed for nothing per strip
_PAIRS: Final = 1 << 16  # pairs that are computed again at a time
_SHORT: Final = 16  # columns that must be left for shortened rows to pay
_FEW: Final = 1 / 128  # of all pairs: to compute more of them one by one takes longer than to multiply all
F = TypeVar("F", np.float32, np.float64)


class _Rows(NamedTuple):
    """Rows as they were given, their norms in float64, and the rows at norm one in float32."""

    table: NDArray[Any]
    norm: NDArray[np.float64]
    near: NDArray[np.float32]


def dbscan(rows: ArrayLike, *, eps: float, min_samples: int) -> NDArray[np.int64]:
    """Return the clusters that DBSCAN finds under the cosine distance ``1 - cos(x, y)``, and -1 for noise.

    A row is core where at least ``min_samples`` rows, itself included, lie within ``eps``. Core rows within ``eps`` of each
    other share a cluster, and clusters are numbered by their first core row. A row that is not core goes to the first cluster
    that has a core row within ``eps``, else it is noise. These are scikit-learn's labels, except that distances are decided as
    in float64. Time is ``O(n^2 d)``; memory holds the rows, 1,024 times n cosines and four bytes for every pair within ``eps``.

    Parameters
    ----------
    rows
        (n, d), of any length but zero.
    eps
        The largest distance of neighbours, from 0 to 2.
    min_samples
        At least 1.

    Returns
    -------
    (n,) int64.

    Raises
    ------
    SpecError
        For rows that are not a table of finite numbers, or that are zero, where the cosine is not defined.

    References
    ----------
    Ester et al., A density-based algorithm for discovering clusters, KDD 1996, section 3.

    Examples
    --------
    >>> dbscan([[1, 0], [9, 1], [0, 1], [-1, 0], [1, 9]], eps=0.01, min_samples=2).tolist()
    [0, 0, 1, -1, 1]
    """
    given = _rows(rows, where="rows")
    n = len(given.near)
    blocks = list(_pairs_within(given, eps))
    count = np.ones(n, dtype=np.int64)
    for first, per_row, others in blocks:
        count[first : first + len(per_row)] += per_row
        count += np.bincount(others, minlength=n)
    core = count >= min_samples
    component, border = np.arange(n), []
    for first, per_row, others in blocks:
        i, j = np.repeat(np.arange(first, first + len(per_row)), per_row), others.astype(np.int64)
        component = _joined(component, i[both := core[i] & core[j]], j[both])
        one = core[i] ^ core[j]
        border.append(np.where(core[i[one]], [j[one], i[one]], [i[one], j[one]]))
    labels = np.full(n, -1, dtype=np.int64)
    labels[core] = _numbered(component[core])
    if border:
        at_border, of_core = np.concatenate(border, axis=1)
        reached = np.full(n, n, dtype=np.int64)
        np.minimum.at(reached, at_border, labels[of_core])
        labels = np.where(~core & (reached < n), reached, labels)
    return labels


def nearest(rows: ArrayLike, others: ArrayLike, *, eps: float) -> NDArray[np.int64]:
    """Return per row the index of the nearest other by cosine, the first of equals, or -1 where none lies within ``eps``.

    Parameters
    ----------
    rows, others
        (n, d) and (m, d), of any length but zero; cosines that differ by less than 1e-6 are equal.
    eps
        The largest distance ``1 - cos`` at which an other is found.

    Returns
    -------
    (n,) int64, from -1 to m - 1.

    Raises
    ------
    SpecError
        As :func:`dbscan` does.

    Examples
    --------
    >>> nearest([[1, 0], [1, 1], [-1, 0]], [[0, 1], [2, 0]], eps=0.5).tolist()
    [1, 0, -1]
    """
    given, other = _rows(rows, where="rows"), _rows(others, where="others")
    found = np.full(len(given.near), -1, dtype=np.int64)
    if not len(other.near):
        return found
    for start in range(0, len(given.near), BLOCK):
        cosine = given.near[start : start + BLOCK] @ other.near.T
        least = np.maximum(cosine.max(axis=1), 1 - eps) - _rounding(given) - SAME
        i, j = np.nonzero(cosine >= least[:, None])
        exact = _cosine(given, i + start, other, j)
        best = np.full(len(cosine), -np.inf)
        np.maximum.at(best, i, exact)
        chosen = (exact >= best[i] - SAME) & (best[i] >= 1 - eps)
        row, first = np.unique(i[chosen], return_index=True)
        found[row + start] = j[chosen][first]
    return found


def unit_rows(rows: ArrayLike, *, where: str, dtype: type[F]) -> NDArray[F]:
    """Return rows (n, d) at norm one.

    Raises
    ------
    SpecError
        For what is no table of finite numbers, or has a row of zeros.

    Examples
    --------
    >>> unit_rows([[3, 4], [0, 2]], where="rows", dtype=np.float64).tolist()
    [[0.6, 0.8], [0.0, 1.0]]
    """
    table, norm = with_norms(rows, where=where, dtype=dtype)
    return np.asarray(table / norm[:, None].astype(dtype), dtype=dtype)


def with_norms(rows: ArrayLike, *, where: str, dtype: type[F]) -> tuple[NDArray[F], NDArray[np.float64]]:
    """Return rows (n, d) as they are and their norms (n,), where :func:`unit_rows` would be a copy too many.

    Raises
    ------
    SpecError
        As :func:`unit_rows` does.
    """
    table = np.asarray(rows, dtype=dtype)
    if table.shape == (0,):
        table = table.reshape(0, 1)
    if table.ndim != 2:
        raise SpecError("vectors that are no table", where=where, expected="the shape (n, d)", got=table.shape)
    norm = np.sqrt(np.einsum("nd,nd->n", table, table, dtype=np.float64))
    wrong = np.flatnonzero(~np.isfinite(norm))
    if len(wrong):
        raise SpecError("a vector that is not finite", where=f"{where}[{wrong[0]}]", hint="look at what made it")
    zero = np.flatnonzero(norm == 0)
    if len(zero):
        got, hint = f"{len(zero)} such rows", "leave them out before"
        raise SpecError("a vector of zeros points nowhere", where=f"{where}[{zero[0]}]", got=got, hint=hint)
    return table, norm


def _rows(rows: ArrayLike, *, where: str) -> _Rows:
    given = np.asarray(rows)
    dtype: type[Any] = np.float32 if given.dtype == np.float32 else np.float64
    table, norm = with_norms(given, where=where, dtype=dtype)
    return _Rows(table, norm, np.asarray(table / norm[:, None].astype(table.dtype), dtype=np.float32))


def _pairs_within(rows: _Rows, eps: float) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int32]]]:
    """Yield strips of rows: their first, how many later rows lie within eps of each, and which, row by row."""
    space, slack = _shortened(rows.near), _rounding(rows)
    for first in range(0, len(space), _STRIP):
        i, j, product = _products(space, first, least=1 - eps - slack)
        if space is not rows.near and len(i) > _FEW * len(space[first : first + _STRIP]) * len(space[first:]):
            space = rows.near  # too many are left to look at: what was saved is lost
            i, j, product = _products(space, first, least=1 - eps - slack)
        within = product >= 1 - eps + slack if space is rows.near else np.zeros(len(i), dtype=np.bool_)
        doubtful = np.flatnonzero(~within)
        within[doubtful] = 1 - _cosine(rows, i[doubtful] + first, rows, j[doubtful] + first) <= eps
        size = min(_STRIP, len(space) - first)
        yield first, np.bincount(i[within], minlength=size), (j[within] + first).astype(np.int32)


def _shortened(near: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows of fewer columns, whose scalar products are never below those of the unit rows.

    A quarter of the columns stay, and one is added, the norm of the others: ``x.y <= x_S.y_S + |x_R| |y_R|``.
    """
    kept = near.shape[1] // 4
    if kept < _SHORT:
        return near
    rest = near[:, kept:]
    norm = np.sqrt(np.einsum("nd,nd->n", rest, rest, dtype=np.float64)).astype(np.float32)
    return np.concatenate([near[:, :kept], norm[:, None]], axis=1)


def _products(
    space: NDArray[np.float32], first: int, *, least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the pairs i < j of a strip's rows and later ones, counted from the strip, whose products reach ``least``."""
    product = (space[first : first + _STRIP] @ space[first:].T).ravel()
    at = np.flatnonzero(product >= least)
    i, j = np.divmod(at, len(space) - first)
    later = j > i
    return i[later], j[later], product[at[later]]


def _rounding(rows: _Rows) -> float:
    """Return how far a float32 scalar product of unit rows can be from the true one, in whatever order it is summed."""
    return float((rows.near.shape[1] + 4) * np.finfo(np.float32).eps)


def _cosine(left: _Rows, i: NDArray[np.int64], right: _Rows, j: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.empty(len(i), dtype=np.float64)
    for start in range(0, len(i), _PAIRS):
        a, b = i[start : start + _PAIRS], j[start : start + _PAIRS]
        product = np.einsum("nd,nd->n", left.table[a], right.table[b], dtype=np.float64)
        out[start : start + _PAIRS] = product / (left.norm[a] * right.norm[b])
    return out


def _joined(component: NDArray[np.int64], i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the components, each known by one of its rows, after the pairs (i, j) have been joined."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = component[i], component[j]
    apart = a != b
    if not apart.any():
        return component
    n = len(component)
    graph = coo_array((np.ones(int(apart.sum()), dtype=np.float32), (a[apart], b[apart])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)[component]


def _numbered(component: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return components numbered from zero in the order in which they first occur."""
    _, first, which = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which].astype(np.int64)
