"""How the earlier domains share the replay by distance, and how far the shares may be off where the distances are estimates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from composer.errors import InputError, SpecError
from composer.types import Schedule, SimilarityMatrix

Vector = NDArray[np.float64]


class ReplayShares(NamedTuple):
    """The share of every earlier domain, with its error.

    ``stderr`` is the standard error of each share, zero where nothing was drawn and None where the matrix keeps no repeats of
    what was. ``low`` and ``high`` enclose each share for certain, equal to it where the distances are exact and None where they
    were drawn. ``variation`` is the total variation between these shares and the true ones, half the sum of the differences:
    its expectation where there are repeats, its bound where there are intervals, and zero where the distances are exact.
    """

    domains: tuple[str, ...]
    share: tuple[float, ...]
    stderr: tuple[float, ...] | None
    low: tuple[float, ...] | None
    high: tuple[float, ...] | None
    variation: float | None


def replay_shares(
    matrix: SimilarityMatrix, *, earlier: Sequence[str], current: Sequence[str], weights: Sequence[float]
) -> ReplayShares:
    """Return the shares ``W_j / sum_r W_r`` of the earlier domains, ``W_j = sum_i w_i W_ji`` over the current ones i.

    Where all distances are zero the shares are equal, as in the replay by distance.

    With repeats the standard error is the jackknife's: the shares are made anew with each of the R repeats left out, and
    ``stderr^2 = (R - 1) / R * sum_r (s_-r - mean)^2``, which a quotient of means needs where a plain deviation would not do.
    ``variation`` is the mean total variation between the shares of a single repeat and those of all, over ``sqrt(R - 1)``: that
    turns the deviation from the own mean of R into the error of that mean. Neither covers the excess of subsamples.

    With intervals, ``low_j / (low_j + sum of the others' high) <= share_j <= high_j / (high_j + sum of the others' low)``, and
    ``variation`` is half the sum of the larger deviations, at most one.

    Raises
    ------
    SpecError
        For similarities that are no distances, and a domain that the matrix does not have.
    InputError
        For weights that do not fit the current domains.

    References
    ----------
    InsCL, arXiv:2403.11435, dynamic replay (the shares); Efron and Stein, Ann. Statist. 9 (1981) (the jackknife).

    Examples
    --------
    >>> w = ((0, 0.5, 0.25), (0.5, 0, 0.75), (0.25, 0.75, 0))
    >>> matrix = SimilarityMatrix(domains=("a", "b", "c"), value=w, measure="example")
    >>> replay_shares(matrix, earlier=("a", "b"), current=("c",), weights=(1.0,)).share
    (0.25, 0.75)
    """
    _check(matrix, earlier, current, weights)
    rows, columns = ([matrix.domains.index(domain) for domain in of] for of in (earlier, current))

    def distances(values: Sequence[Sequence[float]]) -> Vector:
        block = np.array(values, dtype=np.float64).reshape(len(matrix.domains), -1)[np.ix_(rows, columns)]
        return np.asarray(block @ np.asarray(weights, dtype=np.float64))

    share = _shares(distances(matrix.value))
    names, shares = tuple(earlier), _plain(share)
    if matrix.repeats is not None:
        stderr, variation = _by_repeats(np.stack([distances(rows) for rows in matrix.repeats]), share)
        return ReplayShares(names, shares, _plain(stderr), None, None, variation)
    if matrix.low is not None and matrix.high is not None:
        low, high = _by_bounds(distances(matrix.low), distances(matrix.high))
        low, high = np.minimum(low, share), np.maximum(high, share)  # a rounding error apart where they are equal
        off = min(float(np.maximum(share - low, high - share).sum()) / 2, 1.0)
        return ReplayShares(names, shares, _plain(np.zeros_like(share)), _plain(low), _plain(high), off)
    if matrix.stderr is not None:
        return ReplayShares(names, shares, None, None, None, None)
    return ReplayShares(names, shares, _plain(np.zeros_like(share)), shares, shares, 0.0)


def share_errors(matrix: SimilarityMatrix, schedule: Schedule, *, earlier: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return, for every phase with a past, its shares by distance and their error as plain JSON values.

    The past of a phase is ``earlier`` and the current domains of the phases before it; the distances to several current domains
    are weighed by their weights in the phase.
    """
    told, past = [], list(earlier)
    for phase in schedule.phases:
        old = [domain for domain in past if domain not in phase.current]
        mass = [phase.mixture.share(domain) for domain in phase.current]
        if old and sum(mass) > 0:
            weights = [each / sum(mass) for each in mass]
            found = replay_shares(matrix, earlier=old, current=phase.current, weights=weights)
            told.append({"phase": phase.name, **found._asdict()})
        past += [domain for domain in phase.current if domain not in past]
    return told


def _shares(distances: Vector) -> Vector:
    total = distances.sum()
    return distances / total if total > 0 else np.full(len(distances), 1 / max(len(distances), 1))


def _by_repeats(repeats: Vector, share: Vector) -> tuple[Vector, float]:
    """Return the jackknife's standard errors, and the expected total variation, of (R, E) distances."""
    r = len(repeats)
    left_out = np.stack([_shares((repeats.sum(axis=0) - each) / (r - 1)) for each in repeats])
    stderr = np.sqrt((r - 1) / r * np.square(left_out - left_out.mean(axis=0)).sum(axis=0))
    off = np.stack([_shares(each) for each in repeats]) - share
    return stderr, float(np.abs(off).sum(axis=1).mean() / 2 / np.sqrt(r - 1))


def _by_bounds(low: Vector, high: Vector) -> tuple[Vector, Vector]:
    """Return the least and the largest share of each; where all distances are zero, which they may be, the shares are equal."""
    equal = np.full(len(low), 1 / max(len(low), 1))
    least, most = low + (high.sum() - high), high + (low.sum() - low)
    return (
        np.divide(low, least, out=equal.copy(), where=least > 0),
        np.divide(high, most, out=equal.copy(), where=most > 0),
    )


def _plain(values: Vector) -> tuple[float, ...]:
    return tuple(values.tolist())


def _check(matrix: SimilarityMatrix, earlier: Sequence[str], current: Sequence[str], weights: Sequence[float]) -> None:
    if matrix.kind != "distance":
        raise SpecError("shares by distance need distances", where="similarity", expected="distance", got=matrix.kind)
    if missing := [domain for domain in (*earlier, *current) if domain not in matrix.domains]:
        known = ", ".join(matrix.domains)
        raise SpecError("no distance to a domain", where="similarity", expected=f"among {known}", got=", ".join(missing))
    if len(weights) != len(current) or not all(0 <= w < float("inf") for w in weights):
        expected, got = f"{len(current)} finite numbers, none negative", list(weights)
        raise InputError("weights that do not fit the current domains", where="similarity", expected=expected, got=got)
