"""The stage that compares domains. It is as all stages (:mod:`flows.stages`); every pair of domains is a shard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from composer import tables
from composer.artifact import Artifact, shard
from composer.fingerprint import write_json
from composer.spec import plain
from composer.types import SimilarityMatrix
from flows.inputs import light_samples_of
from flows.spread import Spread

PAIRS = ".pairs"


def compare(
    folder: Path, *, distance: Any, domains: tuple[str, ...], samples: Artifact, embeddings: Artifact,
    past: Sequence[Artifact] = (), spread: Spread | None = None,
) -> Mapping[str, Any]:  # fmt: skip
    """Compare every pair of domains by the transport distance of their instructions."""
    from composer.similarity.matrix import compare as all_pairs
    from composer.similarity.matrix import known_pairs

    clouds = _clouds(domains, distance, samples, embeddings)
    alike = [a for a in past if a.manifest.spec["distance"] == plain(distance)]
    known = known_pairs(SimilarityMatrix(**each.json("similarity.json")) for each in alike)
    if spread is not None:
        left = [(i, j) for i, j in combinations(range(len(domains)), 2)
                if tuple(sorted((clouds[domains[i]].digest, clouds[domains[j]].digest))) not in known]  # fmt: skip
        known |= known_pairs(_spread_out(folder, [f"{i:04}-{j:04}" for i, j in left], spread))
    matrix = all_pairs(clouds, distance=distance, domains=domains, known=known)
    write_json(folder / "similarity.json", matrix.model_dump(mode="json"))
    return {"domains": len(domains), "points": {domain: len(each.weights) for domain, each in clouds.items()}}


def shards(
    folder: Path, names: Sequence[str], *, distance: Any, domains: tuple[str, ...], samples: Artifact, embeddings: Artifact
) -> None:
    """Compare some pairs of domains; only the clouds of these are read."""
    from composer.similarity.matrix import compare as all_pairs

    pairs = {name: tuple(domains[int(i)] for i in name.split("-")) for name in names}
    wanted = tuple(dict.fromkeys(domain for pair in pairs.values() for domain in pair))
    clouds = _clouds(wanted, distance, samples, embeddings)
    for name, pair in pairs.items():

        def measure(path: Path, pair: tuple[str, ...] = pair) -> None:
            matrix = all_pairs(clouds, distance=distance, domains=pair, workers=1)
            write_json(path, matrix.model_dump(mode="json"))

        shard(folder / PAIRS, f"{name}.json", measure)


def _spread_out(folder: Path, names: list[str], spread: Spread) -> list[SimilarityMatrix]:
    """Return the matrices of two domains each that are the shards of some pairs."""
    files = {name: folder / PAIRS / f"{name}.json" for name in names}
    (folder / PAIRS).mkdir(exist_ok=True)
    if left := [name for name, file in files.items() if not file.exists()]:
        spread(left)
    return [SimilarityMatrix(**json.loads(file.read_text(encoding="utf-8"))) for file in files.values()]


def _clouds(domains: Sequence[str], distance: Any, samples: Artifact, embeddings: Artifact) -> dict[str, Any]:
    from composer.similarity.matrix import cloud

    rows = light_samples_of(samples, "target", "replay")
    vectors = tables.read(embeddings.file("embeddings.parquet"), tables.EMBEDDING)
    return {domain: cloud(rows, vectors, domain, weighting=distance.weighting) for domain in domains}
