"""One battery for every clusterer: labels follow the vectors, in any order, and are numbered by size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import composer.cluster
from composer.cluster import CLUSTERERS
from composer.cluster.base import distinct
from composer.cluster.kmeans import Kmeans
from composer.cluster.mapping import cluster_map
from composer.errors import SpecError
from composer.spec import member, rng

FIELDS = {"kmeans": {"k": 3}, "density": {"eps": 0.02, "min_samples": 3}}
few = settings(max_examples=40, deadline=None)


def at(degrees):
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def planted(sizes=(60, 40, 25), *, dims=16, spread=0.1, label="planted"):
    """Return vectors around orthogonal directions, mixed, and the direction of each."""
    dice = rng(3, "cluster", label)
    truth = dice.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return np.eye(dims)[truth] + spread * dice.normal(size=(len(truth), dims)), truth


def clusterer(word):
    return CLUSTERERS[word](**FIELDS[word])


@pytest.mark.parametrize("word", CLUSTERERS)
def test_a_clusterer_is_one_file_named_as_its_word_and_says_what_it_is(word):
    cls = CLUSTERERS[word]
    assert (Path(composer.cluster.__file__).parent / f"{word}.py").is_file()
    assert cls.model_fields["name"].default == word
    assert cls.summary
    assert cls.reference != "-"
    assert type(member(word, CLUSTERERS, kind="clusterer")) is cls


@pytest.mark.parametrize("word", CLUSTERERS)
def test_planted_clusters_are_found_and_numbered_by_size(word):
    vectors, truth = planted()
    fields = {"eps": 0.3} if word == "density" else {}
    labels = clusterer(word).model_copy(update=fields).cluster(vectors, seed=5)
    assert labels.dtype == np.int64
    assert labels.tolist() == truth.tolist()


@pytest.mark.parametrize("word", CLUSTERERS)
@given(degrees=st.lists(st.integers(0, 359), min_size=1, max_size=30), seed=st.integers(0, 9), data=st.data())
@few
def test_labels_are_contiguous_by_size_and_follow_the_vectors(word, degrees, seed, data):
    vectors = at(degrees)
    labels = clusterer(word).cluster(vectors, seed=seed)
    assert labels.shape == (len(degrees),)
    size = np.bincount(labels[labels >= 0])
    assert (size > 0).all()
    assert size.tolist() == sorted(size.tolist(), reverse=True)
    assert labels.min() >= (-1 if word == "density" else 0)
    of = {}
    for degree, label in zip(degrees, labels.tolist(), strict=True):
        assert of.setdefault(degree, label) == label  # equal vectors share a label
    order = data.draw(st.permutations(range(len(degrees))))
    assert clusterer(word).cluster(vectors[order], seed=seed).tolist() == labels[order].tolist()


@pytest.mark.parametrize("word", CLUSTERERS)
def test_the_same_seed_gives_the_same_labels_and_lengths_do_not_matter(word):
    vectors, _ = planted(spread=0.4)
    labels = clusterer(word).cluster(vectors, seed=5)
    assert clusterer(word).cluster(vectors, seed=5).tobytes() == labels.tobytes()
    longer = vectors * np.exp2(np.arange(len(vectors)) % 7 - 3)[:, None]  # by powers of two: rounding stays the same
    assert clusterer(word).cluster(longer, seed=5).tobytes() == labels.tobytes()


@pytest.mark.parametrize("word", CLUSTERERS)
def test_no_vectors_have_no_labels_and_one_has_one(word):
    for nothing in ([], np.zeros((0, 4))):
        assert clusterer(word).cluster(nothing, seed=1).shape == (0,)
    assert CLUSTERERS[word](**({"min_samples": 1} if word == "density" else {})).cluster([[2, 1]], seed=1).tolist() == [0]


@pytest.mark.parametrize("word", CLUSTERERS)
@pytest.mark.parametrize(
    ("vectors", "match"),
    [
        ([[1, 0], [0, 0]], r"vectors\[1\]: a vector of zeros points nowhere; got 1 such rows; leave them out before"),
        ([[1, np.nan], [1, 0]], r"vectors\[0\]: a vector that is not finite"),
        ([1.0, 2.0], r"vectors: vectors that are no table; expected the shape \(n, d\); got \(2,\)"),
    ],
)
def test_vectors_that_point_nowhere_are_refused(word, vectors, match):
    with pytest.raises(SpecError, match=match):
        clusterer(word).cluster(vectors, seed=1)


@pytest.mark.parametrize(
    ("word", "fields", "match"),
    [
        ("kmeans", {"k": 0}, "k: input should be greater than or equal to 1"),
        ("kmeans", {"iterations": 0}, "iterations: input should be greater"),
        ("kmeans", {"ks": 3}, "ks: unknown field of Kmeans"),
        ("density", {"eps": 0}, "eps: input should be greater than 0"),
        ("density", {"min_samples": 0}, "min_samples: input should be greater"),
    ],
)
def test_wrong_fields_are_refused(word, fields, match):
    with pytest.raises(SpecError, match=match):
        CLUSTERERS[word](**fields)


def test_a_k_above_the_distinct_vectors_is_lowered_and_none_is_a_rule_of_thumb():
    assert Kmeans(k=9).cluster([[1, 0], [0, 1], [1, 0]], seed=1).tolist() == [0, 1, 0]
    vectors = rng(1, "thumb").normal(size=(200, 8))
    assert Kmeans().cluster(vectors, seed=1).max() + 1 == 10
    assert set(Kmeans(k=1).cluster(vectors, seed=1).tolist()) == {0}


def test_a_vector_that_occurs_often_weighs_as_often():
    # Two groups, 0 and 100 degrees, and one vector between: with weight on 60 it draws the centre of its own.
    light = Kmeans(k=2).cluster(at([0, 2, 60, 100, 102]), seed=1)
    heavy = Kmeans(k=2).cluster(at([0, 2, *[50] * 40, 100, 102]), seed=1)
    assert light[0] == light[1] != light[3] == light[4]
    assert len(set(heavy[2:42].tolist())) == 1
    assert heavy[2] == 0


def test_centres_are_fitted_on_a_sample_and_all_vectors_are_assigned():
    vectors, truth = planted((400, 300, 200))
    assert Kmeans(k=3, sample=20).cluster(vectors, seed=2).tolist() == truth.tolist()


def test_restarts_do_not_make_a_fit_worse():
    vectors = rng(2, "restarts").normal(size=(300, 6))

    def cosines(restarts):
        labels = Kmeans(k=12, restarts=restarts).cluster(vectors, seed=4)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return sum(np.linalg.norm(unit[labels == c].sum(axis=0)) for c in range(12))

    assert cosines(10) > cosines(1)


def test_noise_is_apart_from_every_cluster():
    labels = CLUSTERERS["density"](eps=0.01, min_samples=3).cluster(at([0, 1, 2, 90, 180, 181, 182, 183]), seed=1)
    assert labels.tolist() == [1, 1, 1, -1, 0, 0, 0, 0]


@given(st.lists(st.sampled_from([-1.0, -0.0, 0.0, 1.0]), min_size=4, max_size=40))
@few
def test_distinct_directions_are_each_there_once(values):
    table = np.array(values[: len(values) // 4 * 4], dtype=np.float32).reshape(-1, 4)
    table = table[table.any(axis=1)]
    directions, which = distinct(table)
    rows = directions.take()
    np.testing.assert_allclose(rows[which], table / np.linalg.norm(table, axis=1, keepdims=True), rtol=1e-6)
    assert len(directions) == len({tuple(row) for row in rows.tolist()})
    again, _ = distinct(table[::-1])
    assert (again.take() == rows).all()


def test_faiss_and_torch_share_a_process_and_threads_change_nothing():
    import torch
    from threadpoolctl import threadpool_limits

    rows = np.random.default_rng(0).normal(size=(300, 24))
    found = []
    for n in (1, 2):
        torch.nn.functional.gelu(torch.ones(300, 300) @ torch.ones(300, 300))
        with threadpool_limits(limits=n):
            found.append((Kmeans(k=8, restarts=1).cluster(rows, seed=1).tobytes(), cluster_map(rows[:60], seed=1).tobytes()))
    assert found[0] == found[1]
