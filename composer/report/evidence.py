"""What speaks for a cause of forgetting: which held-out rows were lost, and what was trained on meanwhile.

A **drop** is a fall of a domain's score from one stage to the next that is larger than twice the standard error of the paired
difference over the same held-out rows. For each drop this module counts what the stage trained on, and finds for every row that
was lost the row nearest in words among those that were new (cosine of TF-IDF vectors of the prompts). What is near is a likely
cause and no proof; rows that were kept are compared in the same way, so that nearness which explains nothing shows as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl

from composer import tables
from composer.artifact import Artifact
from composer.report.record import Record

ERRORS = 2.0  # standard errors above which a fall is a drop
LOST = 100  # rows whose loss rose most, where exact match says nothing; and the most rows that neighbours are looked for
NEW = 6_000  # new rows among which they are looked for
Measure = Literal["exact match", "loss"]


@dataclass(frozen=True)
class Drop:
    """A domain that got worse in a stage: by how much, with the standard error, over how many rows."""

    domain: str
    stage: int
    name: str
    measure: Measure
    before: float
    after: float
    stderr: float
    n: int

    @property
    def worse(self) -> float:
        """How much worse it got, in the unit of the measure; above zero."""
        return self.before - self.after if self.measure == "exact match" else self.after - self.before


@dataclass(frozen=True)
class Pair:
    """A held-out row that was lost and the new row nearest to it: prompts, answers, source, cosine."""

    lost: tuple[str, str]
    new: tuple[str, str]
    source: str
    cosine: float


@dataclass(frozen=True)
class Trained:
    """What a stage trained on, seen from one domain: rows and shares of loss tokens."""

    new: tuple[tuple[str, int, float], ...]  # source, rows, share of the new rows
    n_new: int
    own_rows: int
    own_share: float
    own_supply: int


@dataclass(frozen=True)
class Near:
    """The new rows nearest to those that were lost, their cosines and sources, and the cosines of rows that were kept."""

    pairs: tuple[Pair, ...]
    lost: float
    kept: float | None
    apart: float  # lost less kept, in standard errors of the difference
    by_source: tuple[tuple[str, int], ...]
    n: int
    otherwise: int  # pairs whose answers differ


def drops(run: Record) -> list[Drop]:
    """Return every drop of a run, the largest falls of exact match first, then the largest rises of the loss."""
    found = [_frame(each) for each in run.evaluations]
    stages = run.retention.get("stages", [])
    if len(found) != len(stages):
        return []
    out = []
    for k, (before, after) in enumerate(pairwise(found), start=1):
        both = before.join(after, on=["domain", "sample_id"], suffix="_after")
        for own in both.partition_by("domain", maintain_order=True):
            if drop := _drop(own, k, stages[k]):
                out.append(drop)
    return sorted(out, key=lambda drop: (drop.measure != "exact match", -drop.worse, drop.stage, drop.domain))


def _frame(artifact: Artifact) -> pl.DataFrame:
    return tables.read(artifact.file("evaluation.parquet"), tables.EVALUATION)


def _drop(own: pl.DataFrame, stage: int, name: str) -> Drop | None:
    m, domain = len(own), str(own["domain"][0])
    if m < 2:
        return None
    was, now = (own[column].cast(pl.Float64).to_numpy() for column in ("exact", "exact_after"))
    error = float((now - was).std(ddof=1) / np.sqrt(m))
    if was.mean() - now.mean() > ERRORS * error:
        return Drop(domain, stage, name, "exact match", float(was.mean()), float(now.mean()), error, m)
    n = own["n_loss_tokens"].cast(pl.Float64).to_numpy()
    first, last = own["loss_nats"].to_numpy(), own["loss_nats_after"].to_numpy()
    rise = float((last - first).sum() / n.sum())
    error = float(np.sqrt(m / (m - 1) * ((last - first - rise * n) ** 2).sum()) / n.sum())
    if rise > ERRORS * error:
        return Drop(domain, stage, name, "loss", float(first.sum() / n.sum()), float(last.sum() / n.sum()), error, m)
    return None


def trained(run: Record, drop: Drop) -> Trained | None:
    """Return what the stage of a drop trained on."""
    if run.composition is None:
        return None
    rows = run.composition.filter(pl.col("phase") == drop.stage - 1)
    own, new = (
        rows.filter(pl.col("domain") == drop.domain),
        rows.filter((pl.col("domain") != drop.domain) & ~pl.col("is_replay")),
    )
    total = max(int(rows["n_loss_tokens"].cast(pl.Int64).sum()), 1)
    by = new.group_by("source").len("n").sort(["n", "source"], descending=[True, False])
    sources = tuple((source, int(n), n / max(len(new), 1)) for source, n in by.iter_rows())
    pool = run.samples("domain", "role")
    supply = len(pool.filter((pl.col("domain") == drop.domain) & pl.col("role").is_in(["target", "replay"])))
    return Trained(sources, len(new), len(own), float(own["n_loss_tokens"].cast(pl.Int64).sum()) / total, supply)


def near(run: Record, drop: Drop) -> Near | None:
    """Return the new rows that lie nearest to what was lost; None where nothing was lost, or nothing was new."""
    if run.composition is None:
        return None
    before, after = (
        _frame(each).filter(pl.col("domain") == drop.domain) for each in run.evaluations[drop.stage - 1 : drop.stage + 1]
    )
    both = before.join(after, on="sample_id", suffix="_after").sort("sample_id")
    lost, kept = _lost(both, drop)
    new = run.composition.filter((pl.col("phase") == drop.stage - 1) & (pl.col("domain") != drop.domain) & ~pl.col("is_replay"))
    if not len(lost) or not len(new):
        return None
    fresh, own, other = (
        _texts(run, ids) for ids in (new["sample_id"].unique().sort().head(NEW), lost["sample_id"], kept["sample_id"])
    )
    cosine, at = _nearest([*own["prompt"], *other["prompt"]], fresh["prompt"].to_list())
    pairs = [_pair(own, i, fresh, int(at[i]), float(cosine[i])) for i in range(len(own))]
    counts = pl.Series([pair.source for pair in pairs]).value_counts(sort=False).rows()
    near_lost, near_kept = cosine[: len(own)], cosine[len(own) :]
    said = sorted(pairs, key=lambda pair: (pair.lost[1].strip() == pair.new[1].strip(), -pair.cosine, pair.lost))
    return Near(
        pairs=tuple(said), lost=float(near_lost.mean()), kept=float(near_kept.mean()) if len(other) else None,
        apart=_apart(near_lost, near_kept),
        by_source=tuple(sorted(counts, key=lambda each: (-each[1], each[0]))), n=len(own),
        otherwise=sum(pair.lost[1].strip() != pair.new[1].strip() for pair in pairs),
    )  # fmt: skip


def _apart(lost: np.ndarray, kept: np.ndarray) -> float:
    if min(len(lost), len(kept)) < 2:
        return 0.0
    error = np.sqrt(lost.var(ddof=1) / len(lost) + kept.var(ddof=1) / len(kept))
    return float((lost.mean() - kept.mean()) / max(error, 1e-9))


def _lost(both: pl.DataFrame, drop: Drop) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows that were lost, and those that were kept, to compare."""
    if drop.measure == "exact match":
        kept = both.filter(pl.col("exact") & pl.col("exact_after"))
        return both.filter(pl.col("exact") & ~pl.col("exact_after")).head(LOST), kept.head(LOST)
    rise = (pl.col("loss_nats_after") - pl.col("loss_nats")) / pl.col("n_loss_tokens")
    ranked, half = both.with_columns(rise=rise).sort(["rise", "sample_id"], descending=[True, False]), min(LOST, len(both) // 2)
    return ranked.filter(pl.col("rise") > 0).head(half), ranked.tail(half)


def _texts(run: Record, ids: pl.Series) -> pl.DataFrame:
    """Return the prompts and answers of some samples, each once, in the order of their ids."""
    said = pl.col("messages").list.eval(pl.element().struct.field("content"))
    rows = (
        run.samples("sample_id", "source", "messages", only=ids).unique("sample_id").sort("sample_id").with_columns(said=said)
    )
    return rows.select("sample_id", "source", prompt=pl.col("said").list.head(pl.col("said").list.len() - 1).list.join("\n"),
                       answer=pl.col("said").list.last())  # fmt: skip


def _nearest(texts: Sequence[str], among: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return of each text the cosine of the nearest of ``among``, and its place."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, max_features=60_000, token_pattern=r"(?u)\w+", dtype=np.float64
    )
    try:
        of_all = words.fit_transform([*texts, *among])
    except ValueError:  # texts without any word
        return np.zeros(len(texts)), np.zeros(len(texts), dtype=np.int64)
    cosine = (of_all[: len(texts)] @ of_all[len(texts) :].T).toarray()
    return cosine.max(axis=1), cosine.argmax(axis=1)


def _pair(own: pl.DataFrame, i: int, fresh: pl.DataFrame, j: int, cosine: float) -> Pair:
    return Pair((own["prompt"][i], own["answer"][i]), (fresh["prompt"][j], fresh["answer"][j]), fresh["source"][j], cosine)
