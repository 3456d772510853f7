"""How sure a share is: resamples of what was measured, and the distribution that comes of them.

A resample draws as many rows as there are, with replacement. It stands for another sample of such texts and for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from composer.errors import StoreError
from composer.fingerprint import write_json
from composer.tables import Schema, read, write
from composer.types import KnowledgeDistribution

RESAMPLE: Schema = {"resample": pl.UInt32, "domain": pl.String, "share": pl.Float64}
RESAMPLES = "resamples.parquet"
N_RESAMPLES = 1000
_BLOCK = 100  # resamples that are held as counts at once


@dataclass(frozen=True, eq=False)
class Spread:
    """Standard error and 95 % interval, each of the shape of what was resampled."""

    stderr: np.ndarray
    low: np.ndarray
    high: np.ndarray


def resampled(rows: np.ndarray, random: np.random.Generator, *, n: int = N_RESAMPLES) -> np.ndarray:
    """Return the means of ``n`` resamples of the rows, float64 (N, m), as float64 (n, m).

    Examples
    --------
    >>> resampled(np.array([[2.0, 1.0], [2.0, 3.0]]), np.random.default_rng(0))[:, 0].tolist() == [2.0] * 1000
    True
    """
    even = np.full(len(rows), 1 / len(rows))
    sizes = [min(_BLOCK, n - done) for done in range(0, n, _BLOCK)]
    return np.concatenate([random.multinomial(len(rows), even, size=size) @ rows for size in sizes]) / len(rows)


def quantiles(resamples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2.5 % and the 97.5 % quantile along the first axis."""
    low, high = np.quantile(resamples, [0.025, 0.975], axis=0)
    return low, high


def spread(again: np.ndarray) -> Spread:
    """Return the spread of resamples, float64 (resamples, ...), along their first axis."""
    return Spread(again.std(axis=0, ddof=1), *quantiles(again))


def distribution(
    share: np.ndarray, again: np.ndarray, *, domains: Sequence[str], n: int, rejected: int, probe: str, folder: Path
) -> KnowledgeDistribution:
    """Return shares (D,) with the spread of their resamples (resamples, D); both are written into the folder."""
    found = spread(again)
    write_resamples(folder / RESAMPLES, again, domains)
    knowledge = KnowledgeDistribution(
        domains=tuple(domains), p=floats(share / share.sum()), stderr=floats(found.stderr), low=floats(found.low),
        high=floats(found.high), n=n, rejected=rejected, probe=probe,
    )  # fmt: skip
    write_json(folder / "knowledge.json", knowledge.model_dump(mode="json"))
    return knowledge


def floats(values: np.ndarray) -> tuple[float, ...]:
    """Return the values as plain numbers."""
    return tuple(float(value) for value in values)


def write_resamples(path: Path, resamples: np.ndarray, domains: Sequence[str]) -> None:
    """Write shares of resamples (R, D) beside the result, for whoever compares two."""
    write(long("resample", np.arange(len(resamples)), domains, "share", resamples), path, RESAMPLE)


def read_resamples(path: Path, domains: Sequence[str]) -> np.ndarray:
    """Return shares of resamples, float64 (R, D), as they were written.

    Raises
    ------
    StoreError
        Where the table is not one of such shares.
    """
    frame = read(path, RESAMPLE)
    whole = frame.height and frame.height % len(domains) == 0
    if not whole or frame["domain"].to_list() != list(domains) * (frame.height // len(domains)):
        raise StoreError("not resampled shares of these domains", where=str(path), expected=", ".join(domains))
    return frame["share"].to_numpy().reshape(-1, len(domains))


def long(row: str, rows: np.ndarray, domains: Sequence[str], name: str, values: np.ndarray) -> pl.DataFrame:
    """Return a matrix (rows, D) as a table with one value per line.

    Examples
    --------
    >>> long("sample", np.array([7]), ["law", "code"], "share", np.array([[0.25, 0.75]])).rows()
    [(7, 'law', 0.25), (7, 'code', 0.75)]
    """
    index = np.repeat(rows, len(domains)).astype(np.uint32)
    return pl.DataFrame({row: index, "domain": list(domains) * len(rows), name: values.ravel()})
