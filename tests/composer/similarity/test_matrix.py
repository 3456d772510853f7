"""The matrix of all domains: symmetric, in the recipe's order, of distinct instructions; and InsCL's shares on real tasks."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from composer.errors import InputError
from composer.progress import listener
from composer.replay import REPLAY
from composer.similarity import DISTANCES, Cloud
from composer.similarity.matrix import cloud, compare
from composer.spec import digest
from composer.types import ReplayContext

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
