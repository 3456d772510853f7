"""The matrix of all domains: symmetric, in the recipe's order, of distinct instructions; and InsCL's shares on real tasks."""

from __future__ import annotations

import json
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_info

from composer.errors import FaultError, InputError
from composer.progress import listener
from composer.replay import REPLAY
from composer.similarity import DISTANCES, Cloud
from composer.similarity.base import Distance, Estimate
from composer.similarity.matrix import cloud, compare, known_pairs
from composer.spec import digest, member, rng
from composer.types import ReplayContext, SimilarityMatrix

TASKS = Path(__file__).parents[3] / "../shared/data/tasks"
EXACT = DISTANCES["wasserstein"]()


def samples(rows):
    columns = {"sample_id": [], "domain": [], "role": [], "instruction_id": []}
    for i, row in enumerate(rows):
        for column, value in zip(columns, (f"s{i}", *row), strict=True):
            columns[column].append(value)
    return pl.DataFrame(columns)


def embeddings(vectors):
    return pl.DataFrame(
        {"instruction_id": list(vectors), "vector": list(vectors.values())},
        schema={"instruction_id": pl.String, "vector": pl.List(pl.Float32)},
    )


ROWS = samples([
    ("law", "target", "i"), ("law", "target", "i"), ("law", "target", "i"), ("law", "replay", "j"),
    ("law", "validation", "k"), ("code", "target", "k"),
])  # fmt: skip
VECTORS = embeddings({"k": [0.0, 2.0], "j": [0.0, 1.0], "i": [1.0, 0.0]})


def test_a_cloud_is_the_distinct_instructions_that_are_trained_on():
    real = cloud(ROWS, VECTORS, "law")
    by_vector = dict(zip(map(tuple, real.vectors.tolist()), real.weights.tolist(), strict=True))
    assert by_vector == {(1.0, 0.0): 0.75, (0.0, 1.0): 0.25}
    assert real.vectors.dtype == np.float32
    assert cloud(ROWS, VECTORS, "law", weighting="uniform").weights.tolist() == [0.5, 0.5]


def test_the_order_of_rows_changes_no_bit():
    turned = cloud(ROWS.reverse(), VECTORS.reverse(), "law")
    straight = cloud(ROWS, VECTORS, "law")
    assert turned.vectors.tobytes() == straight.vectors.tobytes()
    assert turned.weights.tobytes() == straight.weights.tobytes()


def test_a_cloud_without_rows_or_vectors_is_refused():
    with pytest.raises(InputError, match="a domain without samples has no cloud; got science"):
        cloud(ROWS, VECTORS, "science")
    with pytest.raises(InputError, match="similarity of law: 1 instructions have no embedding"):
        cloud(ROWS, VECTORS.filter(pl.col("instruction_id") != "i"), "law")


def test_the_matrix_is_in_the_order_asked_for():
    clouds = {name: Cloud([vector]) for name, vector in {"a": [1, 0], "b": [0, 1], "c": [-1, 0]}.items()}
    matrix = compare(clouds, distance=EXACT, domains=("c", "a", "b"))
    np.testing.assert_allclose(matrix.value, [[0, 2, 1], [2, 0, 1], [1, 1, 0]], atol=1e-12)
    assert (matrix.domains, matrix.kind, matrix.measure, matrix.stderr) == (("c", "a", "b"), "distance", "wasserstein", None)
    assert matrix.between("a", "c") == pytest.approx(2)


def test_each_pair_is_measured_once_and_told():
    pairs, shown = [], []

    class Watcher:
        @contextmanager
        def bar(self, label, *, total, unit):
            shown.append((label, total, unit))
            yield self

        def advance(self, n=1):
            pairs.append(n)

    token = listener.set(Watcher())
    try:
        compare({d: Cloud(np.eye(2)[i % 2 : i % 2 + 1]) for i, d in enumerate("abcd")}, distance=EXACT, domains=tuple("abcd"))
    finally:
        listener.reset(token)
    assert shown == [("comparing domains", 6, "pairs")]
    assert sum(pairs) == 6


def test_the_standard_errors_of_a_subsample_are_kept():
    generator = np.random.default_rng(0)
    clouds = {d: Cloud(generator.normal(size=(60, 4))) for d in "ab"}
    matrix = compare(clouds, distance=DISTANCES["subsampled"](points=20), domains=("a", "b"))
    assert matrix.stderr is not None
    assert matrix.stderr[0][1] == matrix.stderr[1][0] > 0
    assert matrix.stderr[0][0] == 0


FORMS = [
    {"name": "wasserstein"}, {"name": "wasserstein", "mode": "interval"}, {"name": "subsampled", "points": 20, "repeats": 2},
]  # fmt: skip


def normal_clouds(names, m=40):
    return {name: Cloud(rng(i, "matrix").normal(size=(m + i, 4)) + i / 4) for i, name in enumerate(names)}


@pytest.mark.parametrize("fields", FORMS)
def test_no_digit_depends_on_the_workers(fields):
    distance = member(fields, DISTANCES, kind="distance")
    clouds = normal_clouds("abcde")
    matrices = [compare(clouds, distance=distance, domains=tuple("abcde"), workers=n) for n in (1, 3, None)]
    assert matrices[0] == matrices[1] == matrices[2]


def test_pairs_are_measured_at_the_same_time_and_told_by_who_asked():
    both, told = threading.Barrier(2, timeout=20), []

    class Meeting(Distance):
        name: str = "meeting"

        def measure(self, a, b):  # noqa: ARG002
            both.wait()  # broken after the time-out, where there is one thread
            return Estimate(1.0, 0.0)

    class Watcher:
        @contextmanager
        def bar(self, *_, **__):
            yield self

        def advance(self, n=1):
            told.append((threading.current_thread() is threading.main_thread(), n))

    token = listener.set(Watcher())
    try:
        compare(normal_clouds("abcd", 3), distance=Meeting(), domains=tuple("abcd"), workers=2)
    finally:
        listener.reset(token)
    assert told == [(True, 1)] * 6


def test_a_fault_in_a_thread_ends_the_comparison_and_leaves_the_filters_of_warnings():
    class Broken(Distance):
        name: str = "broken"

        def measure(self, a, b):  # noqa: ARG002
            raise FaultError("the solver broke")

    before = list(warnings.filters)
    with pytest.raises(FaultError, match="the solver broke"):
        compare(normal_clouds("abcd", 3), distance=Broken(), domains=tuple("abcd"), workers=2)
    assert warnings.filters == before
    compare(normal_clouds("abcd", 3), distance=EXACT, domains=tuple("abcd"), workers=3)
    assert warnings.filters == before


def test_of_comparisons_at_once_the_last_puts_the_process_back_as_it_was():
    met = threading.Barrier(2, timeout=30)

    class Meeting(Distance):
        name: str = "meeting"
        last: bool = False

        def measure(self, a, b):  # noqa: ARG002
            met.wait()
            if self.last:
                met.wait()  # until the other comparison has ended
            return Estimate(1.0, 0.0)

    before, limits = list(warnings.filters), [pool["num_threads"] for pool in threadpool_info()]
    clouds = normal_clouds("ab", 3)
    with ThreadPoolExecutor(2) as pool:
        first, second = (
            pool.submit(compare, clouds, distance=Meeting(last=last), domains=("a", "b")) for last in (False, True)
        )
        first.result()
        assert warnings.filters != before, "the other comparison is still at work"
        met.wait()
        second.result()
    assert warnings.filters == before
    assert [pool["num_threads"] for pool in threadpool_info()] == limits


@pytest.mark.parametrize("fields", FORMS)
def test_a_domain_that_joins_costs_its_own_row_and_column_alone(fields, monkeypatch):
    distance = member(fields, DISTANCES, kind="distance")
    clouds = normal_clouds("abcde")
    before = compare(clouds, distance=distance, domains=tuple("abcd"))
    kept = SimilarityMatrix(**json.loads(json.dumps(before.model_dump(mode="json"))))
    assert kept == before
    assert kept.clouds == tuple(clouds[name].digest for name in "abcd")
    measured = []
    plain = type(distance).measure
    monkeypatch.setattr(type(distance), "measure", lambda self, a, b: measured.append(1) or plain(self, a, b))
    domains = tuple("cebad")  # in another order than before
    after = compare(clouds, distance=distance, domains=domains, known=known_pairs([kept]))
    assert len(measured) == 4
    assert after == compare(clouds, distance=distance, domains=domains)
    assert len(measured) == 4 + 10


def test_a_cloud_that_changed_is_measured_anew():
    clouds = normal_clouds("abc")
    known = known_pairs([compare(clouds, distance=EXACT, domains=tuple("abc"))])
    changed = clouds | {"c": Cloud(clouds["c"].vectors + np.float32(1))}
    assert compare(changed, distance=EXACT, domains=tuple("abc"), known=known) == compare(
        changed, distance=EXACT, domains=tuple("abc")
    )


def test_known_distances_of_another_kind_are_refused():
    clouds = normal_clouds("abc")
    known = known_pairs([compare(clouds, distance=member(FORMS[2], DISTANCES, kind="distance"), domains=("a", "b"))])
    with pytest.raises(InputError, match=r"known distances of another kind.*reuse only what the same distance gave"):
        compare(clouds, distance=EXACT, domains=tuple("abc"), known=known)


def test_a_matrix_without_digests_knows_no_pair_and_one_domain_has_none():
    assert known_pairs([SimilarityMatrix(domains=("a", "b"), value=((0, 1), (1, 0)), measure="m")]) == {}
    alone = compare({"a": Cloud([[1.0]])}, distance=EXACT, domains=("a",))
    assert (alone.value, alone.low, alone.repeats) == (((0.0,),), None, None)
    assert compare({}, distance=EXACT, domains=()).value == ()


def test_the_matrix_keeps_intervals_repeats_and_excess():
    clouds = normal_clouds("abc")
    drawn, enclosed = (
        compare(clouds, distance=member(f, DISTANCES, kind="distance"), domains=tuple("abc")) for f in FORMS[:0:-1]
    )
    assert (drawn.low, enclosed.repeats, enclosed.excess, enclosed.stderr) == (None, None, None, None)
    assert np.mean(drawn.repeats, axis=0) == pytest.approx(np.array(drawn.value), abs=1e-15)
    estimate = member(FORMS[2], DISTANCES, kind="distance").estimate(clouds["a"], clouds["c"])
    assert drawn.excess[0][2] == drawn.excess[2][0] == estimate.excess
    assert [rows[2][0] for rows in drawn.repeats] == list(estimate.repeats)
    assert (np.array(enclosed.low) <= np.array(enclosed.value)).all()


def test_a_missing_cloud_is_named():
    with pytest.raises(InputError, match="a domain has no cloud to compare; got b"):
        compare({"a": Cloud([[1.0]])}, distance=EXACT, domains=("a", "b"))


@pytest.mark.skipif(not TASKS.is_dir(), reason="shared/data/tasks is not here")
def test_sixteen_real_tasks_have_a_matrix_and_inscl_shares():
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows = pl.concat([pl.read_parquet(path) for path in sorted(TASKS.glob("*.parquet"))])
    rows = rows.with_columns(pl.col("instruction").map_elements(digest, return_dtype=pl.String).alias("instruction_id"))
    frame = rows.select(
        pl.col("id").alias("sample_id"), pl.col("task").alias("domain"), pl.lit("target").alias("role"), "instruction_id"
    )
    texts = rows.unique("instruction_id", maintain_order=True)
    assert texts.height < rows.height / 40
    dense = TruncatedSVD(32, random_state=0).fit_transform(TfidfVectorizer().fit_transform(texts["instruction"].to_list()))
    vectors = embeddings(dict(zip(texts["instruction_id"], dense.astype(np.float32).tolist(), strict=True)))
    tasks = tuple(sorted(frame["domain"].unique()))
    clouds = {task: cloud(frame, vectors, task) for task in tasks}
    matrix = compare(clouds, distance=EXACT, domains=tasks)
    value = np.array(matrix.value)
    assert value.shape == (16, 16)
    assert (value[~np.eye(16, dtype=bool)] > 0).all()
    assert value.max() <= 2
    *earlier, current = tasks
    supply = tuple(frame.filter(pl.col("domain") == task).height for task in earlier)
    context = ReplayContext(
        stage=15, earlier=tuple(earlier), current=(current,), weights=(1.0,), available=supply, similarity=matrix
    )
    amounts = REPLAY["distance"](per_task=100).amounts(context)
    assert amounts.sum() == 1500
    np.testing.assert_allclose(amounts, value[:-1, -1] / value[:-1, -1].sum() * 1500, atol=1)
