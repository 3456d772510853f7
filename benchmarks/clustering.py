"""k-means against bare faiss, and DBSCAN against scikit-learn's.

k-means: 100,000 unit vectors in 384 dimensions drawn around no centres (a smooth spectrum as of sentence vectors, so that no
fit is done early), 256 clusters, one start, 20 iterations, at most 256 vectors a cluster for the fit and then all assigned. The
inertia is that of all vectors to the mean of their cluster, by one evaluator. Both draw their own sample. Ours also looks for
vectors that are no numbers and for equal ones, and numbers the clusters.

DBSCAN: 16,000 synthetic embeddings of tags in groups of some eight near ones of uneven spread, eps 0.1 and 5 neighbours. The
labels must be identical. Peaks are of processes that have imported the same modules, which weigh as well.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
from functools import partial
from typing import Any

import faiss
import numpy as np
import scipy.sparse.csgraph  # noqa: F401  imports are not the question
import sklearn.cluster
from _harness import QUICK, Ratio, cpu_seconds, race, tell

from composer.cluster.kmeans import Kmeans
from composer.neighbours import dbscan
from composer.spec import rng

M, K, ITERATIONS, SAMPLE = (4_000, 32, 20, 64) if QUICK else (100_000, 256, 20, 256)
TAGS, EPS, MIN_SAMPLES = 1_500 if QUICK else 16_000, 0.1, 5
DIMS, REPEATS, SEED = 384, 2 if QUICK else 5, 41


def sentences() -> np.ndarray:
    """Return unit vectors without planted clusters, whose variance falls from dimension to dimension."""
    dice = rng(SEED, "benchmark", "kmeans")
    rows = dice.standard_normal((M, DIMS), dtype=np.float32) * (1 / np.sqrt(np.arange(1, DIMS + 1, dtype=np.float32)))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def tags() -> np.ndarray:
    """Return unit vectors in small groups, some tight and some loose."""
    dice = rng(SEED, "benchmark", "dbscan")
    groups = dice.normal(size=(TAGS // 8, DIMS))
    spread = dice.choice([0.15, 0.3, 0.6], size=(TAGS, 1))
    rows = groups[dice.integers(len(groups), size=TAGS)] + spread * dice.normal(size=(TAGS, DIMS))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def bare(rows: np.ndarray, *, seed: int, ran: list[int]) -> np.ndarray:
    """Return the clusters that faiss finds, called as its manual does."""
    fitted = faiss.Kmeans(DIMS, K, niter=ITERATIONS, seed=seed, spherical=True, max_points_per_centroid=SAMPLE)
    fitted.train(rows)
    ran.append(len(fitted.obj))
    return fitted.assign(rows)[1]


def watched(rows: np.ndarray, *, seed: int, ran: list[int]) -> np.ndarray:
    """Return our clusters, and keep how many iterations there were."""
    kept: list[Any] = []
    original = faiss.Kmeans.train

    def train(self: Any, *args: Any, **named: Any) -> Any:
        kept.append(self)
        return original(self, *args, **named)

    faiss.Kmeans.train = train
    try:
        labels = Kmeans(k=K, iterations=ITERATIONS, restarts=1, sample=SAMPLE).cluster(rows, seed=seed)
    finally:
        faiss.Kmeans.train = original
    ran.append(len(kept[0].obj))
    return labels


def inertia(rows: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean squared distance of all rows to the mean of their cluster."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sums = np.add.reduceat(rows[order].astype(np.float64), starts, axis=0)
    size = np.diff(starts, append=len(rows))
    return float((len(rows) - (np.einsum("kd,kd->k", sums, sums) / size).sum()) / len(rows))


def kmeans() -> tuple[list[Ratio], dict[str, Any]]:
    """Return the ratios of CPU seconds and of inertia, and what either did."""
    rows = sentences()
    times, errors, did = [], [], {"ours": [], "faiss": []}
    for i in range(REPEATS):
        ran: list[int] = []
        theirs_s, theirs = cpu_seconds(partial(bare, rows, seed=SEED + i, ran=ran))
        ours_s, ours = cpu_seconds(partial(watched, rows, seed=SEED + i, ran=ran))
        times.append(ours_s / theirs_s)
        both = inertia(rows, ours), inertia(rows, theirs)
        errors.append(both[0] / both[1])
        for side, cpu, value, n in zip(("faiss", "ours"), (theirs_s, ours_s), both[::-1], ran, strict=True):
            did[side].append({"cpu": round(cpu, 3), "inertia": round(value, 5), "iterations": n})
            print(f"kmeans {i + 1}: {side} {did[side][-1]}", file=sys.stderr)
    name = f"k-means, {M:,} vectors"
    return [
        Ratio(f"{name}: cpu over faiss", statistics.median(times), 1.05, "lower", REPEATS),
        Ratio(f"{name}: inertia over faiss", statistics.median(errors), 1.002, "lower", REPEATS),
    ], did


def our_dbscan() -> str:
    """Return a digest of our labels."""
    return digest(dbscan(tags(), eps=EPS, min_samples=MIN_SAMPLES))


def their_dbscan() -> str:
    """Return a digest of scikit-learn's labels."""
    return digest(sklearn.cluster.DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="cosine").fit_predict(tags()))


def digest(labels: np.ndarray) -> str:
    """Return how many clusters there are, the share of noise, and a hash of all labels."""
    hashed = hashlib.sha256(labels.astype(np.int64).tobytes()).hexdigest()
    return f"{labels.max() + 1} clusters, {(labels < 0).mean():.4f} noise, {hashed}"


def main() -> None:
    """Run both comparisons and tell their ratios."""
    faiss.omp_set_num_threads(1)
    ratios, did = kmeans()
    raced = race("dbscan", {"ours": our_dbscan, "scikit-learn": their_dbscan}, same=lambda a, b: a == b)
    name = f"DBSCAN, {TAGS:,} vectors"
    tell(
        "clustering",
        [
            *ratios,
            raced.ratio(f"{name}: cpu over scikit-learn", "ours", "scikit-learn", target=0.5),
            raced.ratio(f"{name}: peak over scikit-learn", "ours", "scikit-learn", of="peak", target=0.35),
        ],
        equal=raced.equal,
        sizes={"vectors": M, "dims": DIMS, "k": K, "iterations": ITERATIONS, "sample per cluster": SAMPLE, "tags": TAGS},
        costs={"kmeans": did, "dbscan": raced.medians()},
    )


if __name__ == "__main__":
    main()
