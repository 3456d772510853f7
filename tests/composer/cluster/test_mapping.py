"""A map keeps neighbours beside each other, in any order of the rows."""

from __future__ import annotations

import numpy as np
import pytest

import composer.cluster.mapping as module
from composer.cluster.mapping import cluster_map
from composer.errors import SpecError
from composer.spec import rng


def planted(n, *, k=5, dims=12):
    dice = rng(6, "map")
    truth = np.arange(n) % k
    return np.eye(dims)[truth] + 0.15 * dice.normal(size=(n, dims)), truth


def neighbours_agree(places, truth):
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(len(places), np.inf))
    return (truth[apart.argmin(axis=1)] == truth).mean()


@pytest.mark.parametrize("fitted", [2000, 60])
def test_neighbours_stay_neighbours_and_the_order_of_the_rows_does_not_matter(fitted, monkeypatch):
    monkeypatch.setattr(module, "FITTED", fitted)
    monkeypatch.setattr(module, "BLOCK", 16)
    vectors, truth = planted(90)
    places = cluster_map(vectors, seed=1)
    assert places.shape == (90, 2)
    assert places.dtype == np.float64
    assert neighbours_agree(places, truth) > 0.95
    assert abs(places).max() == 1
    assert places.mean(axis=0) == pytest.approx(0, abs=1e-9)
    order = rng(1, "order").permutation(90)
    assert cluster_map(vectors[order], seed=1) == pytest.approx(places[order], abs=1e-12)


def test_equal_vectors_have_one_place():
    vectors, _ = planted(20)
    places = cluster_map(np.concatenate([vectors, 2 * vectors[:3]]), seed=1)
    assert (places[20:] == places[:3]).all()
    assert len(np.unique(places[:20], axis=0)) == 20


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 9, 10])
@pytest.mark.parametrize("dims", [1, 2, 5])
def test_few_vectors_have_places_too(n, dims):
    vectors = rng(n, "few").normal(size=(n, dims))
    places = cluster_map(vectors, seed=1)
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()
    assert cluster_map(vectors, seed=1).tobytes() == places.tobytes()


def test_a_tiny_map_keeps_distances_in_the_plane():
    vectors = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
    places = cluster_map(vectors, seed=1)
    assert np.linalg.norm(places[0] - places[2]) == pytest.approx(np.linalg.norm(places[1] - places[3]))
    assert np.linalg.norm(places[0] - places[2]) == pytest.approx(2**0.5 * np.linalg.norm(places[0] - places[1]))


def test_vectors_that_point_nowhere_are_refused():
    with pytest.raises(SpecError, match=r"vectors\[1\]: a vector of zeros points nowhere"):
        cluster_map([[1, 0], [0, 0]], seed=1)
