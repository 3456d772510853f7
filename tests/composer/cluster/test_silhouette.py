"""The silhouette is scikit-learn's, and the k it chooses that of planted clusters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import composer.cluster.silhouette as module
from composer.cluster.silhouette import best_k, silhouette
from composer.errors import SpecError
from composer.spec import rng

few = settings(max_examples=40, deadline=None)


def theirs(vectors, labels):
    from sklearn.metrics import silhouette_score

    return silhouette_score(np.asarray(vectors, dtype=np.float64), labels, metric="cosine")


@given(st.integers(0, 99), st.integers(2, 6), st.integers(1, 5))
@few
def test_it_is_that_of_scikit_learn(seed, k, dims):
    dice = rng(seed, "silhouette")
    vectors, labels = dice.normal(size=(24, dims)), np.append(np.arange(k), dice.integers(k, size=24 - k))
    assert silhouette(vectors, labels) == pytest.approx(theirs(vectors, labels), abs=1e-9)


def test_blocks_do_not_change_it(monkeypatch):
    dice = rng(1, "blocks")
    vectors, labels = dice.normal(size=(50, 5)), dice.integers(4, size=50)
    whole = silhouette(vectors, labels)
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert silhouette(vectors, labels) == pytest.approx(whole, abs=1e-12)


def test_by_hand_alone_and_noise():
    right, up = [1, 0], [0, 1]
    assert silhouette([right, right, up, up], [0, 0, 1, 1]) == pytest.approx(1)
    assert silhouette([right, up, right, up], [0, 0, 1, 1]) == pytest.approx(-0.5)  # a = 1, b = 1/2
    assert silhouette([right, right, up], [0, 0, 1]) == pytest.approx(2 / 3)  # one alone counts as 0
    assert silhouette([right, right, up, up, [1, 1]], [4, 4, 9, 9, -1]) == pytest.approx(1)
    assert silhouette([right, right, right, right], [0, 0, 1, 1]) == 0


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([0, 0], "one cluster is apart from nothing; expected two clusters or more; got 1"),
        ([-1, -1], "one cluster is apart from nothing; expected two clusters or more; got 0"),
        ([0], r"labels: labels of other vectors; expected the shape \(2,\); got \(1,\)"),
    ],
)
def test_what_has_no_silhouette_is_refused(labels, match):
    with pytest.raises(SpecError, match=match):
        silhouette([[1, 0], [0, 1]], labels)


def test_the_best_k_is_that_of_planted_clusters():
    dice = rng(2, "planted")
    for k in (2, 4, 7):
        vectors = np.eye(8)[np.arange(140) % k] + 0.1 * dice.normal(size=(140, 8))
        assert best_k(vectors, ks=range(1, 12), seed=3) == k


def test_where_no_k_can_be_judged_it_is_one():
    assert best_k([], ks=range(2, 5), seed=1) == 1
    assert best_k([[1, 0], [0, 1]], ks=range(2, 5), seed=1) == 1
    assert best_k([[1, 0], [0, 1], [1, 1]], ks=[1, 9], seed=1) == 1
    assert best_k([[1, 0]] * 50, ks=range(2, 5), seed=1) == 1
