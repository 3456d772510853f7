"""All domains against each other: the clouds of their instructions, and the matrix of distances between them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.errors import InputError
from composer.progress import bar
from composer.similarity.base import Cloud, Distance
from composer.types import SimilarityMatrix


def compare(clouds: Mapping[str, Cloud], *, distance: Distance, domains: tuple[str, ...]) -> SimilarityMatrix:
    """Return the distances between all domains, each pair measured once.

    Parameters
    ----------
    clouds
        A cloud per domain.
    distance
        How two clouds are compared.
    domains
        The order of rows and columns.

    Raises
    ------
    InputError
        For a domain without a cloud.
    """
    if missing := [domain for domain in domains if domain not in clouds]:
        hint = "embed the instructions of every domain first"
        raise InputError("a domain has no cloud to compare", where="similarity", got=", ".join(missing), hint=hint)
    value, stderr = np.zeros((2, len(domains), len(domains)))
    pairs = list(combinations(range(len(domains)), 2))
    with bar("comparing domains", total=len(pairs), unit="pairs") as shown:
        for i, j in pairs:
            estimate = distance.estimate(clouds[domains[i]], clouds[domains[j]])
            value[i, j] = value[j, i] = estimate.value
            stderr[i, j] = stderr[j, i] = estimate.stderr
            shown.advance()
    return SimilarityMatrix(
        domains=domains, value=_rows(value), measure=distance.name, stderr=_rows(stderr) if stderr.any() else None
    )


def _rows(matrix: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())


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
