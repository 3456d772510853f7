"""All domains against each other: the clouds of their instructions, and the matrix of distances between them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from itertools import combinations
from threading import Lock
from typing import Literal

import numpy as np
import polars as pl

from composer.errors import InputError
from composer.progress import bar
from composer.similarity.base import Cloud, Distance, Estimate
from composer.types import SimilarityMatrix

Pair = tuple[int, int]
Rows = tuple[tuple[float, ...], ...]


def compare(
    clouds: Mapping[str, Cloud], *, distance: Distance, domains: tuple[str, ...], workers: int | None = None,
    known: Mapping[tuple[str, str], Estimate] | None = None,
) -> SimilarityMatrix:  # fmt: skip
    """Return the distances between all domains, each pair measured once.

    Parameters
    ----------
    clouds
        A cloud per domain.
    distance
        How two clouds are compared.
    domains
        The order of rows and columns.
    workers
        Pairs that are measured at a time, in threads; as many as there are cores when absent. No digit depends on it, but the
        memory does: every one holds the costs of its own pair. The linear algebra of each runs in one thread meanwhile.
    known
        What the same distance gave before, by the two digests of a pair in order (see :func:`known_pairs`); such pairs are not
        measured again.

    Raises
    ------
    InputError
        For a domain without a cloud, and a known estimate of another kind than those that are measured.
    """
    if missing := [domain for domain in domains if domain not in clouds]:
        hint = "embed the instructions of every domain first"
        raise InputError("a domain has no cloud to compare", where="similarity", got=", ".join(missing), hint=hint)
    digests = tuple(clouds[domain].digest for domain in domains)
    pairs = list(combinations(range(len(domains)), 2))
    found = {(i, j): known[key] for i, j in pairs if known and (key := _key(digests[i], digests[j])) in known}
    left = [pair for pair in pairs if pair not in found]
    with bar("comparing domains", total=len(pairs), unit="pairs") as shown:
        if found:
            shown.advance(len(found))
        for pair, estimate in _measured([clouds[domain] for domain in domains], left, distance, workers):
            found[pair] = estimate
            shown.advance()
    return _matrix(found, domains, digests, distance)


def _measured(
    clouds: Sequence[Cloud], pairs: Sequence[Pair], distance: Distance, workers: int | None
) -> Iterator[tuple[Pair, Estimate]]:
    """Yield the estimate of every pair as it comes; the solvers let go of the interpreter's lock, so threads do."""
    if not pairs:
        return
    with _threads(), ThreadPoolExecutor(min(workers or os.cpu_count() or 1, len(pairs))) as pool:
        measured = {pool.submit(distance.estimate, clouds[i], clouds[j]): (i, j) for i, j in pairs}
        try:
            for future in as_completed(measured):
                yield measured[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _threads() -> Iterator[None]:
    """Keep the linear algebra to one thread per pair, and the warnings of solvers quiet in all threads at once.

    Both belong to the process. Of several comparisons at once the first one in sets them and the last one out puts back what
    it found: one that did so in the middle would leave another's behind, and other threads to the rest.
    """
    with _guard:
        if not _inside:
            _quiet.enter_context(_one_thread())
        _inside.append(1)
    try:
        yield
    finally:
        with _guard:
            _inside.pop()
            if not _inside:
                _quiet.close()


_guard, _quiet = Lock(), ExitStack()
_inside: list[int] = []


@contextmanager
def _one_thread() -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
        warnings.simplefilter("ignore")
        yield


def _matrix(
    found: Mapping[Pair, Estimate], domains: tuple[str, ...], digests: tuple[str, ...], distance: Distance
) -> SimilarityMatrix:
    kinds = {(tuple(part is None for part in each), len(each.repeats or ())) for each in found.values()}
    if len(kinds) > 1:
        hint = "reuse only what the same distance gave"
        raise InputError("known distances of another kind than those measured", where="similarity", hint=hint)

    def rows(values: Mapping[Pair, float | None]) -> Rows | None:
        matrix = np.zeros((len(domains), len(domains)))
        for (i, j), value in values.items():
            if value is None:
                return None
            matrix[i, j] = matrix[j, i] = value
        return tuple(tuple(row) for row in matrix.tolist())

    def all_of(name: str) -> Rows | None:
        return rows({pair: getattr(each, name) for pair, each in found.items()}) if found else None

    n_repeats = max((len(each.repeats or ()) for each in found.values()), default=0)
    repeats = [rows({pair: (each.repeats or ())[r] for pair, each in found.items()}) for r in range(n_repeats)]
    drawn = any(each.stderr for each in found.values())
    return SimilarityMatrix(
        domains=domains, value=rows({pair: each.value for pair, each in found.items()}) or (), measure=distance.name,
        stderr=all_of("stderr") if drawn else None, low=all_of("low"), high=all_of("high"),
        repeats=tuple(each for each in repeats if each is not None) or None, excess=all_of("excess"), clouds=digests,
    )  # fmt: skip


def known_pairs(matrices: Iterable[SimilarityMatrix]) -> dict[tuple[str, str], Estimate]:
    """Return what matrices of one distance know of pairs, by their digests, for :func:`compare` to reuse; every digit is kept.

    A matrix that does not say which clouds it compared knows no pair. Of a pair in several the last one counts.

    Examples
    --------
    >>> matrix = SimilarityMatrix(domains=("a", "b"), value=((0, 0.5), (0.5, 0)), measure="example", clouds=("f1", "07"))
    >>> known_pairs([matrix])[("07", "f1")].value
    0.5
    """
    return {key: estimate for matrix in matrices for key, estimate in _pairs_of(matrix)}


def _pairs_of(matrix: SimilarityMatrix) -> Iterator[tuple[tuple[str, str], Estimate]]:
    digests = matrix.clouds or ()

    def entry(rows: Rows | None, i: int, j: int) -> float | None:
        return None if rows is None else rows[i][j]

    for i, j in combinations(range(len(digests)), 2):
        yield (
            _key(digests[i], digests[j]),
            Estimate(
                value=matrix.value[i][j],
                stderr=entry(matrix.stderr, i, j) or 0.0,
                low=entry(matrix.low, i, j),
                high=entry(matrix.high, i, j),
                repeats=None if matrix.repeats is None else tuple(rows[i][j] for rows in matrix.repeats),
                excess=entry(matrix.excess, i, j),
            ),
        )


def _key(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a <= b else (b, a)


def cloud(
    samples: pl.DataFrame, embeddings: pl.DataFrame, domain: str, *, weighting: Literal["real", "uniform"] = "real"
) -> Cloud:
    """Return the cloud of a domain's distinct instructions.

    Parameters
    ----------
    samples
        SAMPLE; the rows to train on (targets and replay) count, those only measured do not.
    embeddings
        EMBEDDING; a vector per instruction.
    domain
        Whose instructions.
    weighting
        ``real``: an instruction weighs as many samples as it has. ``uniform``: every instruction weighs the same.

    Raises
    ------
    InputError
        For a domain without samples, and an instruction without a vector.
    """
    counts = (
        samples.filter(pl.col("domain") == domain, pl.col("role").is_in(["target", "replay"]))
        .group_by("instruction_id")
        .agg(pl.len().alias("n"))
        .join(embeddings, on="instruction_id", how="left")
        .sort("instruction_id")
    )
    if counts.is_empty():
        raise InputError("a domain without samples has no cloud", where="similarity", got=domain)
    if without := counts["vector"].null_count():
        hint = "embed the same samples that are compared"
        raise InputError(f"{without} instructions have no embedding", where=f"similarity of {domain}", hint=hint)
    vectors = counts["vector"].explode().to_numpy().reshape(counts.height, -1)
    return Cloud(vectors, counts["n"].to_numpy() if weighting == "real" else None)
