"""Task definitions of Super-NaturalInstructions fall into clusters that can be named and drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from composer.cluster import CLUSTERERS
from composer.cluster.mapping import cluster_map
from composer.cluster.naming import name_clusters
from composer.cluster.silhouette import silhouette
from probes.embed.lexical import Lexical
from probes.tags import TAGGERS

FILE = Path(__file__).parents[4] / "shared/data/extra/superni_definitions.parquet"

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="needs shared/data beside the repository")


@pytest.fixture(scope="module")
def definitions():
    return pl.read_parquet(FILE).unique("instruction", maintain_order=True)


@pytest.fixture(scope="module")
def vectors(definitions):
    return Lexical(dims=64).encode(definitions["instruction"].to_list())


@pytest.mark.parametrize("fields", [{"name": "kmeans"}, {"name": "density", "eps": 0.3}])
def test_definitions_cluster_and_have_names(definitions, vectors, fields, tmp_path):
    labels = CLUSTERERS[fields["name"]](**fields).cluster(vectors, seed=7)
    names = name_clusters(labels, TAGGERS["keyphrase"]().tag(definitions["instruction"].to_list(), folder=tmp_path))
    size = np.bincount(labels[labels >= 0])
    assert len(names) == len(set(names)) == len(size) > 10
    assert size.tolist() == sorted(size.tolist(), reverse=True)
    assert sum(name.startswith("untagged") for name in names) < len(names) / 5
    mixed = np.random.default_rng(0).permutation(labels)
    assert silhouette(vectors, labels) > silhouette(vectors, mixed) + 0.1


def test_their_map_keeps_clusters_together(vectors):
    part = vectors[:500]
    labels, places = CLUSTERERS["kmeans"](k=12).cluster(part, seed=7), cluster_map(part, seed=7)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(len(part), np.inf))
    by_chance = (np.bincount(labels) ** 2).sum() / len(labels) ** 2
    assert (labels[apart.argmin(axis=1)] == labels).mean() > 3 * by_chance
