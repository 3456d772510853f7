"""One battery for every distance, then the exact one by its identities (methods.md 2e) and an independent solver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import composer.similarity
from composer.errors import FaultError, InputError, SpecError
from composer.similarity import DISTANCES, Cloud
from composer.similarity import transport as solver
from composer.spec import member, rng

few = settings(max_examples=15, deadline=None)
FORMS = [
    pytest.param({"name": "wasserstein"}, id="wasserstein-cosine"),
    pytest.param({"name": "wasserstein", "cost": "euclidean"}, id="wasserstein-euclidean"),
    pytest.param({"name": "wasserstein", "mode": "interval"}, id="interval-cosine"),
    pytest.param({"name": "subsampled", "points": 12, "repeats": 2}, id="subsampled-cosine"),
    pytest.param({"name": "subsampled", "points": 12, "repeats": 2, "cost": "euclidean"}, id="subsampled-euclidean"),
]


def distance(fields):
    return member(fields, DISTANCES, kind="distance")


def cloud(seed, m, *, d=5):
    generator = rng(seed, "cloud")
    return generator.normal(size=(m, d)).astype(np.float32), generator.random(m) + 0.1


@pytest.mark.parametrize("word", DISTANCES)
def test_a_distance_is_one_file_named_as_its_word_and_says_what_it_is(word):
    cls = DISTANCES[word]
    assert (Path(composer.similarity.__file__).parent / f"{word}.py").is_file()
    assert cls.model_fields["name"].default == word
    assert cls.summary
    assert cls.reference
    assert any(form.values[0]["name"] == word for form in FORMS)


@pytest.mark.parametrize("fields", FORMS)
@given(seed=st.integers(0, 999), m=st.integers(1, 30))
@few
def test_zero_on_itself(fields, seed, m):
    x, w = cloud(seed, m)
    assert distance(fields).between(x, x, wx=w, wy=w) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("fields", FORMS)
@given(seed=st.integers(0, 999), m=st.integers(1, 30), n=st.integers(1, 30))
@few
def test_symmetric_and_deterministic(fields, seed, m, n):
    (x, wx), (y, wy) = cloud(seed, m), cloud(seed + 1, n)
    there = distance(fields).between(x, y, wx=wx, wy=wy)
    assert there == distance(fields).between(y, x, wx=wy, wy=wx)  # to the bit
    assert there == distance(fields).between(x, y, wx=wx, wy=wy)
    assert there > 0


@pytest.mark.parametrize("fields", FORMS)
@given(seed=st.integers(0, 999), m=st.integers(2, 30), data=st.data())
@few
def test_splitting_and_permuting_rows_changes_nothing(fields, seed, m, data):
    (x, wx), (y, wy) = cloud(seed, m), cloud(seed + 1, 20)
    whole = distance(fields).between(x, y, wx=wx, wy=wy)
    row = data.draw(st.integers(0, m - 1))
    halves = np.append(wx, wx[row] / 2)
    halves[row] /= 2
    assert distance(fields).between(np.vstack([x, x[row]]), y, wx=halves, wy=wy) == pytest.approx(whole, abs=1e-12)
    order = np.array(data.draw(st.permutations(range(m))))
    assert distance(fields).between(x[order], y, wx=wx[order], wy=wy) == pytest.approx(whole, abs=1e-12)
    assert distance(fields).between(np.vstack([x, y[:1]]), y, wx=np.append(wx, 0), wy=wy) == pytest.approx(whole, abs=1e-12)
    assert distance(fields).between(x, y, wx=wx * 7, wy=wy / 3) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("fields", [form for form in FORMS if form.id.endswith("cosine")])
@given(seed=st.integers(0, 999), scale=st.sampled_from([0.25, 0.5, 4.0]))
@few
def test_the_length_of_embeddings_does_not_matter_to_cosine(fields, seed, scale):
    (x, wx), (y, wy) = cloud(seed, 20), cloud(seed + 1, 25)
    plain = distance(fields).between(x, y, wx=wx, wy=wy)
    assert 0 <= plain <= 2
    assert distance(fields).between(x * np.float32(scale), y, wx=wx, wy=wy) == pytest.approx(plain, abs=1e-12)


@pytest.mark.parametrize("fields", FORMS)
def test_vectors_and_weights_that_are_no_cloud_are_refused(fields):
    one = distance(fields)
    x = np.eye(3)
    with pytest.raises(InputError, match=r"expected a finite matrix with rows; got \(0, 3\)"):
        one.between(np.empty((0, 3)), x)
    with pytest.raises(InputError, match="expected a finite matrix"):
        one.between(np.full((2, 3), np.nan), x)
    with pytest.raises(InputError, match="weights that do not fit a cloud; expected 3 finite numbers"):
        one.between(x, x, wx=[1, 2])
    with pytest.raises(InputError, match="weights that do not fit a cloud"):
        one.between(x, x, wx=[0, 0, 0])
    with pytest.raises(InputError, match="weights that do not fit a cloud"):
        one.between(x, x, wy=[1, 1, -1])
    with pytest.raises(InputError, match="clouds of different dimensions; expected 3; got 2"):
        one.between(x, np.eye(2))


W = DISTANCES["wasserstein"]()
U, V = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def test_two_orthogonal_directions():
    assert W.between([U, V], [U]) == pytest.approx(0.5)
    assert W.between([U, V], [U, V], wx=[0.75, 0.25], wy=[0.25, 0.75]) == pytest.approx(0.5)
    assert W.between([U], [-U]) == pytest.approx(2)


def test_single_instructions_are_one_minus_the_cosine():
    x, y = rng(3, "x").normal(size=(2, 1, 8)).astype(np.float32)
    cosine = float(x[0] @ y[0] / np.linalg.norm(x) / np.linalg.norm(y))
    assert W.between(x, y) == pytest.approx(1 - cosine, abs=1e-6)
    euclidean = DISTANCES["wasserstein"](cost="euclidean")
    assert euclidean.between(x, y) == pytest.approx(np.linalg.norm(x - y), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_uniform_clouds_of_equal_size_are_a_best_assignment(seed):
    from scipy.optimize import linear_sum_assignment

    x, y = rng(seed, "assign").normal(size=(2, 40, 6))
    a, b = (z.astype(np.float32).astype(np.float64) for z in (x, y))
    cost = 1 - (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    rows, columns = linear_sum_assignment(cost)
    assert W.between(x, y) == pytest.approx(cost[rows, columns].mean(), abs=1e-9)


@given(seed=st.integers(0, 999), shift=st.sampled_from([0.0, 100.0]), near=st.sampled_from([1e-4, 1.0]))
@few
def test_euclidean_costs_are_the_lengths_of_differences(seed, shift, near):
    generator = rng(seed, "lengths")
    x = (generator.normal(size=(30, 4)) + shift).astype(np.float32)
    y = np.concatenate([x[:10], x[10:20] + np.float32(near) * generator.normal(size=(10, 4)).astype(np.float32)])
    found = solver.costs(x, y, cost="euclidean")
    expected = np.linalg.norm(x[:, None].astype(np.float64) - y, axis=2)
    assert found == pytest.approx(expected, rel=1e-9, abs=0)
    assert (np.diag(found[:10, :10]) == 0).all()


def test_minus_zero_is_zero():
    assert len(Cloud([[0.0, 1.0], [-0.0, 1.0]])) == 1


def test_an_embedding_without_length_has_no_cosine_but_a_place():
    with pytest.raises(InputError, match=r"zero length has no cosine; got 1 rows.*drop it"):
        W.between([[0, 0], [1, 0]], [[1, 0]])
    assert DISTANCES["wasserstein"](cost="euclidean").between([[0, 0]], [[3, 4]]) == pytest.approx(5)


def test_too_many_points_are_refused_with_a_way_out():
    x, _ = cloud(0, 11)
    with pytest.raises(SpecError, match=r"expected at most 10 points; got 11 and 3.*subsampled.*max_points"):
        DISTANCES["wasserstein"](max_points=10).between(x, x[:3])
    assert DISTANCES["wasserstein"](max_points=10).between(np.repeat(x[:3], 9, axis=0), x[:2]) > 0  # distinct rows count


def test_a_solver_that_stops_early_is_an_error(monkeypatch):
    monkeypatch.setattr(solver, "_ITERATIONS", 1)
    (x, _), (y, _) = cloud(0, 60), cloud(1, 60)
    with pytest.raises(FaultError, match=r"the exact transport did not finish.*subsampled"):
        W.between(x, y)


def test_small_clouds_are_not_subsampled():
    (x, wx), (y, wy) = cloud(4, 30), cloud(5, 25)
    estimate = DISTANCES["subsampled"](points=30).estimate(Cloud(x, wx), Cloud(y, wy))
    assert estimate.value == pytest.approx(W.between(x, y, wx=wx, wy=wy), abs=1e-12)
    assert estimate.stderr == 0


def test_a_subsample_is_near_the_exact_distance_and_says_how_near():
    (x, wx), (y, wy) = cloud(6, 600, d=3), cloud(7, 500, d=3)
    y = y + np.float32(1.5)
    exact = W.between(x, y, wx=wx, wy=wy)
    estimate = DISTANCES["subsampled"](points=200, repeats=6).estimate(Cloud(x, wx), Cloud(y, wy))
    assert estimate.stderr > 0
    assert estimate.value == pytest.approx(exact, rel=0.1)
    assert estimate.value > exact - 3 * estimate.stderr
    other = DISTANCES["subsampled"](points=200, repeats=6, seed=1).estimate(Cloud(x, wx), Cloud(y, wy))
    assert other.value != estimate.value


def test_the_excess_is_what_half_the_size_adds_and_the_repeats_make_the_mean():
    (x, wx), (y, wy) = cloud(10, 500, d=4), cloud(11, 400, d=4)
    a, b = Cloud(x, wx), Cloud(y + np.float32(1), wy)
    whole, half = (DISTANCES["subsampled"](points=points, repeats=4).estimate(a, b) for points in (100, 50))
    assert whole.excess == pytest.approx(half.value - whole.value, abs=1e-15)
    assert whole.excess > 0
    assert len(whole.repeats) == 4
    assert whole.value == pytest.approx(np.mean(whole.repeats), abs=1e-15)
    assert whole.stderr == pytest.approx(np.std(whole.repeats, ddof=1) / 2, abs=1e-15)
    exact = W.estimate(a, b).value
    assert abs(whole.value - exact) < abs(half.value - exact)


def test_clouds_taken_whole_repeat_themselves_without_excess():
    (x, wx), (y, wy) = cloud(12, 20), cloud(13, 25)
    found = DISTANCES["subsampled"](points=25, repeats=3).estimate(Cloud(x, wx), Cloud(y, wy))
    assert found.repeats == (found.value,) * 3
    assert (found.stderr, found.excess) == (0, 0)


def test_a_repeat_of_a_cloud_is_the_same_subsample_in_every_pair(monkeypatch):
    seen = []

    def record(a, b, **_):
        seen.append((a.digest, b.digest))
        return 0.0

    monkeypatch.setattr("composer.similarity.subsampled.transport", record)
    one, *others = (Cloud(cloud(seed, 60)[0]) for seed in (20, 21, 22))
    for other in others:
        DISTANCES["subsampled"](points=16, repeats=2).estimate(one, other)
    first, second = seen[:4], seen[4:]
    assert [len({*mine} & {*other}) for mine, other in zip(first, second, strict=True)] == [1] * 4
    assert len({digest for pair in seen for digest in pair}) == 3 * 4  # three clouds, two repeats at two sizes


def test_a_subsample_draws_a_point_by_its_weight():
    vectors, weights = cloud(8, 300)
    whole = Cloud(vectors, weights)
    drawn = DISTANCES["subsampled"]()._draw(whole, 0, 50)
    row = {vector.tobytes(): weight for vector, weight in zip(whole.vectors, whole.weights, strict=True)}
    for vector, share in zip(drawn.vectors, drawn.weights, strict=True):
        assert abs(share * 50 - row[vector.tobytes()] * 50) < 1


def test_neighbours_may_be_drawn_together():
    line = Cloud(np.arange(1, 41)[:, None])
    drawn = DISTANCES["subsampled"]()._draw(line, 0, 20)
    rows = np.flatnonzero(np.isin(line.vectors, drawn.vectors))
    assert len(rows) == 20
    assert 1 in np.diff(rows)  # a comb over the cloud's own order would take every second row
