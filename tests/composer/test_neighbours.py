"""Neighbours are scikit-learn's and those of a plain loop, in any order and whatever the size of a block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import composer.neighbours as module
from composer.errors import SpecError
from composer.neighbours import dbscan, nearest
from composer.spec import rng

few = settings(max_examples=80, deadline=None)
EPS = 0.0124  # 9.0 degrees and a little: no pair of whole degrees lies on it


def at(degrees: list[float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def theirs(rows: np.ndarray, *, eps: float, min_samples: int) -> np.ndarray:
    from sklearn.cluster import DBSCAN

    return DBSCAN(eps=eps, min_samples=min_samples, metric="cosine").fit_predict(rows.astype(np.float64))


@given(st.lists(st.integers(0, 359), min_size=1, max_size=80), st.integers(1, 6), st.sampled_from([EPS, 0.05, 0.5]))
@few
def test_labels_are_those_of_scikit_learn(degrees: list[int], min_samples: int, eps: float) -> None:
    rows = at(degrees).astype(np.float32)
    assert dbscan(rows, eps=eps, min_samples=min_samples).tolist() == theirs(rows, eps=eps, min_samples=min_samples).tolist()


@pytest.mark.parametrize("strip", [7, 100, 1024])
@pytest.mark.parametrize("spread", [0.1, 0.3, 0.45])
def test_labels_are_those_of_scikit_learn_in_many_dimensions(
    spread: float, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STRIP", strip)
    dice = rng(4, "neighbours", str(spread))
    topics = dice.normal(size=(40, 24))
    rows = topics[dice.integers(40, size=600)] + spread * dice.normal(size=(600, 24))
    rows[::5] = rows[1::5]
    labels = dbscan(rows, eps=0.1, min_samples=4)
    assert labels.tolist() == theirs(rows, eps=0.1, min_samples=4).tolist()
    assert labels.dtype == np.int64
    assert labels.max() > 0  # more than one cluster was there to be found


def test_pairs_on_the_edge_are_decided_in_float64() -> None:
    dice = rng(5, "edge")
    base = dice.normal(size=(1, 384))
    aside = dice.normal(size=(200, 384))
    aside -= (aside @ base.T) / (base @ base.T) * base
    angle = np.arccos(1 - 0.1 + np.linspace(-2e-7, 2e-7, 200))  # within the rounding of a float32 product
    lengths = np.linalg.norm(base), np.linalg.norm(aside, axis=1, keepdims=True)
    rows = np.concatenate(
        [base / lengths[0], np.cos(angle)[:, None] * base / lengths[0] + np.sin(angle)[:, None] * aside / lengths[1]]
    )
    labels = dbscan(rows, eps=0.1, min_samples=3)
    assert labels.tolist() == theirs(rows, eps=0.1, min_samples=3).tolist()
    assert set(labels.tolist()) == {-1, 0}


def test_a_border_row_goes_to_the_first_cluster_that_reaches_it() -> None:
    low, high = [*[-5] * 9, 3], [19, *[27] * 9]  # 11 lies within 9 degrees of 3 and 19, and of no other
    assert dbscan(at([*low, 11, *high]), eps=EPS, min_samples=5).tolist() == [0] * 11 + [1] * 10
    assert dbscan(at([*high, 11, *low]), eps=EPS, min_samples=5).tolist() == [0] * 11 + [1] * 10
    assert dbscan(at([11, *high, *low]), eps=EPS, min_samples=5).tolist() == [0] * 11 + [1] * 10
    assert dbscan(at([*high, 11, *low]), eps=EPS, min_samples=3).tolist() == [0] * 21  # it is core and joins them
    assert dbscan(at([*high, 12, *low]), eps=EPS, min_samples=5).tolist() == [0] * 11 + [1] * 10
    assert dbscan(at([*low, 13, *high]), eps=EPS, min_samples=5).tolist() == [0] * 10 + [1] * 11
    assert dbscan(at([*low, 50, *high]), eps=EPS, min_samples=5).tolist() == [0] * 10 + [-1] + [1] * 10


@given(st.lists(st.integers(0, 359), min_size=1, max_size=40), st.integers(1, 4), st.randoms(use_true_random=False))
@few
def test_core_rows_share_clusters_in_any_order(degrees: list[int], min_samples: int, random: object) -> None:
    order = list(range(len(degrees)))
    random.shuffle(order)  # type: ignore[attr-defined]
    rows = at(degrees)
    straight = dbscan(rows, eps=EPS, min_samples=min_samples)
    shuffled = np.empty_like(straight)
    shuffled[order] = dbscan(rows[order], eps=EPS, min_samples=min_samples)
    assert ((straight < 0) == (shuffled < 0)).all()
    near = 1 - rows @ rows.T <= EPS
    core = near.sum(axis=1) >= min_samples
    same = straight[:, None] == straight[None, :]
    assert (same == (shuffled[:, None] == shuffled[None, :]))[np.ix_(core, core)].all()


def test_the_length_of_a_row_does_not_matter() -> None:
    rows = rng(6, "lengths").normal(size=(120, 5))
    longer = rows * np.linspace(0.1, 90, 120)[:, None]
    assert dbscan(longer, eps=0.1, min_samples=3).tolist() == dbscan(rows, eps=0.1, min_samples=3).tolist()


@given(st.lists(st.integers(0, 359), max_size=40), st.lists(st.integers(0, 359), max_size=40))
@few
def test_the_nearest_is_that_of_a_plain_loop(degrees: list[int], others: list[int]) -> None:
    rows, other = at(degrees).astype(np.float32), at(others).astype(np.float32)
    expected = []
    for own in degrees:
        apart = [min(abs(own - each), 360 - abs(own - each)) for each in others]
        expected.append(apart.index(min(apart)) if apart and min(apart) <= 9 else -1)
    assert nearest(rows, other, eps=EPS).tolist() == expected


def test_blocks_do_not_change_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = rng(8, "nearest")
    rows, others = dice.normal(size=(200, 16)), dice.normal(size=(90, 16))
    whole = nearest(rows, others, eps=0.5)
    monkeypatch.setattr(module, "BLOCK", 13)
    assert nearest(rows, others, eps=0.5).tolist() == whole.tolist()
    assert 0 < (whole >= 0).sum() < 200


def test_no_rows_have_no_labels() -> None:
    assert dbscan(np.zeros((0, 3)), eps=0.1, min_samples=2).shape == (0,)
    assert dbscan([], eps=0.1, min_samples=2).shape == (0,)
    assert nearest(np.zeros((0, 3)), [[1, 0, 0]], eps=0.1).shape == (0,)
    assert nearest([[1, 0, 0]], np.zeros((0, 3)), eps=0.1).tolist() == [-1]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([[1, 0], [0, 0], [0, 0]], r"rows\[1\]: a vector of zeros points nowhere; got 2 such rows"),
        ([[1, 0], [np.nan, 0]], r"rows\[1\]: a vector that is not finite"),
        ([[1, 0], [np.inf, 0]], r"rows\[1\]: a vector that is not finite"),
        ([1, 0], r"rows: vectors that are no table; expected the shape \(n, d\); got \(2,\)"),
    ],
)
def test_what_points_nowhere_is_refused(rows: list[list[float]], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        dbscan(rows, eps=0.1, min_samples=2)
    with pytest.raises(SpecError, match=match):
        nearest(rows, [[1, 0]], eps=0.1)
