"""The stages that look at instructions: what they are about, how much they say, what is near what, and what is at risk.

They are as all stages (:mod:`flows.stages`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from composer import tables
from composer.artifact import Artifact
from composer.fingerprint import write_json
from composer.spec import seed_of
from flows.inputs import as_text, instructions_of, light_samples_of, samples_of
from flows.spread import Spread

Stats = Mapping[str, Any]
Groups = Sequence[tuple[str, ...]]
TRAINED = ("target", "replay")


def answers(folder: Path, *, samples: Artifact) -> Stats:
    """Number the answers, so that rows can be spread over them; equal texts have equal numbers."""
    text = pl.col("messages").list.last().struct.field("content").str.strip_chars()
    rows = pl.scan_parquet(samples.file("samples.parquet")).filter(pl.col("role").is_in(TRAINED))
    frame = rows.select("sample_id", answer=text.rank("dense").cast(pl.UInt32)).collect()
    tables.write(frame, folder / "answers.parquet", tables.ANSWER)
    return {"samples": len(frame), "answers": frame["answer"].n_unique()}


def tag(folder: Path, *, tagger: Any, samples: Artifact, spread: Spread | None = None) -> Stats:
    """Give every unique instruction its tags."""
    texts = instructions_of(samples)
    if spread is not None and (left := tagger.left(texts["text"].to_list(), folder=folder)):
        spread(left)
    tags = tagger.tag(texts["text"].to_list(), folder=folder)
    frame = texts.select("instruction_id").with_columns(
        pl.Series("tags", [list(each) for each in tags], dtype=pl.List(pl.String))
    )
    tables.write(frame, folder / "tags.parquet", tables.TAGS)
    return {"instructions": len(texts), "tags": len({t for each in tags for t in each}), "untagged": sum(not t for t in tags)}


def tag_shards(folder: Path, names: Sequence[str], *, tagger: Any, samples: Artifact) -> None:
    """Ask for the tags of some shards of the instructions."""
    tagger.ask(instructions_of(samples)["text"].to_list(), folder=folder, names=names)


def score(folder: Path, *, groups: Groups, earlier: tuple[str, ...], tags: Artifact, samples: Artifact) -> Stats:
    """Score every instruction by its InsInfo among those of its phase and the phases before."""
    from composer.insinfo import insinfo

    tagged = tables.read(tags.file("tags.parquet"), tables.TAGS)
    of_domain = light_samples_of(samples, *TRAINED).select("domain", "instruction_id").unique()
    parts = []
    for phase, old, new in _phases(groups, earlier):
        wanted = of_domain.filter(pl.col("domain").is_in([*old, *new]))
        pool = tagged.join(wanted, on="instruction_id", how="semi").sort("instruction_id")
        parts.append(_scores(pool["instruction_id"], phase, "insinfo", insinfo(pool["tags"])))
    frame = pl.concat(parts)
    tables.write(frame, folder / "scores.parquet", tables.INSTRUCTION_SCORE)
    write_json(folder / "ranking.json", _ranking(parts[-1], instructions_of(samples)))
    last = parts[-1]["value"].to_numpy()
    return {"instructions": len(last), "phases": len(parts), "mean": float(last.mean()), "most": float(last.max())}


def _ranking(scores: pl.DataFrame, texts: pl.DataFrame, *, n: int = 10) -> dict[str, list[dict[str, Any]]]:
    """Return the instructions that say most and those that say least, with the beginnings of their texts."""
    told = scores.join(texts, on="instruction_id").select("value", text=pl.col("text").str.head(200))
    ends = {"most": told.sort(pl.col("value"), "text", descending=[True, False]), "least": told.sort("value", "text")}
    return {end: rows.head(n).to_dicts() for end, rows in ends.items()}


def cover(
    folder: Path, *, coverage: Any, groups: Groups, earlier: tuple[str, ...], samples: Artifact, embeddings: Artifact
) -> Stats:  # fmt: skip
    """Map which instructions of earlier phases the new ones of every phase leave uncovered."""
    from composer.similarity.coverage import cover as of_pair

    points = _points(samples, embeddings)
    parts, plans, phases, alone = [], [], [], []
    for phase, old, new in _phases(groups, earlier):
        told, far = dict[str, float](), dict[str, float]()
        coming = points.filter(pl.col("domain").is_in(new)).group_by("instruction_id").agg(
            pl.col("n").sum(), pl.col("vector").first()
        ).sort("instruction_id")  # fmt: skip
        for domain in old:
            own = points.filter(pl.col("domain") == domain)
            found = of_pair(*_cloud(own), *_cloud(coming), near=coverage.near)
            parts.append(_scores(own["instruction_id"], phase, "uncovered", found.uncovered))
            share = own["n"].to_numpy() / own["n"].sum()
            told[domain], far[domain] = float(found.uncovered @ share), float((found.nearest > coverage.near) @ share)
            plans.append(_moved(phase, domain, own, coming, found.plan))
        phases.append(told)
        alone.append(far)
    empty = pl.DataFrame(schema=tables.INSTRUCTION_SCORE)
    tables.write(pl.concat([empty, *parts]), folder / "scores.parquet", tables.INSTRUCTION_SCORE)
    write_json(folder / "risk.json", {"measure": "uncovered", "near": coverage.near, "phases": phases, "alone": alone})
    if coverage.plan:
        plan = pl.concat([pl.DataFrame(schema=tables.TRANSPORT_PLAN), *plans])
        tables.write(plan, folder / "plan.parquet", tables.TRANSPORT_PLAN)
    return {"phases": len(phases), "uncovered": _mean(phases)}


def interfere(
    folder: Path, *, embedder: Any, near: float, rows: int, seed: int, groups: Groups, earlier: tuple[str, ...],
    samples: Artifact,
) -> Stats:  # fmt: skip
    """Measure how far the new rows of every phase answer otherwise what earlier rows near them answer."""
    from composer.similarity.interference import interference, some_rows

    text = {"prompt": as_text("before"), "answer": pl.col("messages").list.last().struct.field("content")}
    every = samples_of(samples, *TRAINED).with_columns(before=pl.col("messages").list.head(pl.col("messages").list.len() - 1))
    some = some_rows(every, n=rows, seed=seed_of(seed, "interfere")).select("domain", "instruction_id", **text)
    prompts, replies = (embedder.encode(some[name].to_list()) for name in ("prompt", "answer"))
    domain = some["domain"].to_numpy()
    parts, phases = [], []
    for phase, old, new in _phases(groups, earlier):
        told: dict[str, float] = {}
        coming = np.isin(domain, new)
        for name in old:
            own = domain == name
            value = interference((prompts[own], replies[own]), (prompts[coming], replies[coming]), near=near)
            by = some.filter(own).select("instruction_id", value=value).group_by("instruction_id").agg(pl.mean("value"))
            by = by.sort("instruction_id")
            parts.append(_scores(by["instruction_id"], phase, "interference", by["value"].to_numpy()))
            told[name] = float(value.mean())
        phases.append(told)
    empty = pl.DataFrame(schema=tables.INSTRUCTION_SCORE)
    tables.write(pl.concat([empty, *parts]), folder / "scores.parquet", tables.INSTRUCTION_SCORE)
    write_json(folder / "risk.json", {"measure": "interference", "near": near, "phases": phases})
    return {"rows": len(some), "phases": len(phases), "interference": _mean(phases)}


def cluster(
    folder: Path, *, clusterer: Any, seed: int, embeddings: Artifact, samples: Artifact, tags: Artifact | None = None
) -> Stats:
    """Group the instructions that lie near each other, name the groups by their tags, and lay them out as a map."""
    from composer.cluster.mapping import cluster_map
    from composer.cluster.naming import name_clusters

    points = _points(samples, embeddings).group_by("instruction_id").agg(pl.col("n").sum(), pl.col("vector").first())
    points = points.sort("instruction_id")
    vectors, n = _cloud(points)
    labels = clusterer.cluster(vectors, seed=seed_of(seed, "cluster"))
    place = cluster_map(vectors, seed=seed_of(seed, "map"))
    frame = points.select("instruction_id", cluster=pl.Series(labels).cast(pl.Int32), x=place[:, 0], y=place[:, 1])
    tables.write(frame, folder / "clusters.parquet", tables.CLUSTERS)
    tagged = {} if tags is None else dict(tables.read(tags.file("tags.parquet"), tables.TAGS).iter_rows())
    names = name_clusters(labels, [tagged.get(each, []) for each in points["instruction_id"]])
    sizes = [{"cluster": i, "name": name, "instructions": int((labels == i).sum()), "rows": int(n[labels == i].sum())}
             for i, name in enumerate(names)]  # fmt: skip
    write_json(folder / "clusters.json", {"clusters": sizes, "noise": int((labels < 0).sum())})
    return {"instructions": len(points), "clusters": len(names), "noise": int((labels < 0).sum())}


def _phases(groups: Groups, earlier: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...], tuple[str, ...]]]:
    """Yield every phase with the domains that came before it and its own."""
    old = earlier
    for phase, group in enumerate(groups):
        yield phase, old, group
        old = (*old, *group)


def _points(samples: Artifact, embeddings: Artifact) -> pl.DataFrame:
    """Return the instructions of every domain: domain, instruction_id, n (rows) and vector, in a fixed order."""
    counts = light_samples_of(samples, *TRAINED).group_by("domain", "instruction_id").agg(n=pl.len())
    vectors = tables.read(embeddings.file("embeddings.parquet"), tables.EMBEDDING)
    return counts.join(vectors, on="instruction_id").sort("domain", "instruction_id")


def _cloud(points: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return points["vector"].list.explode().to_numpy().reshape(len(points), -1), points["n"].to_numpy().astype(np.float64)


def _scores(ids: pl.Series, phase: int, name: str, values: np.ndarray) -> pl.DataFrame:
    frame = pl.DataFrame({"instruction_id": ids, "value": np.asarray(values, dtype=np.float64)})
    frame = frame.with_columns(phase=pl.lit(phase, dtype=pl.UInt32), score=pl.lit(name))
    return frame.select(list(tables.INSTRUCTION_SCORE))


def _moved(phase: int, domain: str, own: pl.DataFrame, coming: pl.DataFrame, plan: Any) -> pl.DataFrame:
    i, j, mass = plan
    return pl.DataFrame({
        "phase": np.full(len(i), phase, dtype=np.uint32), "domain": [domain] * len(i),
        "instruction_id": own["instruction_id"][i], "by": coming["instruction_id"][j], "mass": mass,
    }, schema=tables.TRANSPORT_PLAN)  # fmt: skip


def _mean(phases: Sequence[Mapping[str, float]]) -> float | None:
    values = [value for told in phases for value in told.values()]
    return sum(values) / len(values) if values else None
