"""What the instructions are about: the map with its clusters, and what new ones leave uncovered of earlier ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from composer import tables
from composer.artifact import Artifact
from composer.report.draw import colour, heat, points
from composer.report.numbers import clipped, count, share
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Key, Panel, Part, Table, Words

MOST = 4_000  # points of a map; more would make the page heavy and the map no clearer
NAMED = 7  # clusters with a colour of their own
LABELS = 6
LEVELS = ("covered", "mostly covered", "half covered", "mostly uncovered", "uncovered")
EXAMPLES = 8
TITLES = {"coverage": "Left uncovered: share of an earlier domain's instructions that nothing new is near",
          "interference": "Answered otherwise: how far new rows near earlier ones say something else"}  # fmt: skip


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:  # noqa: ARG001
    """Return the maps of one run's instructions."""
    clusters, risks = run.last("clusters"), [each for kind in TITLES if (each := run.last(kind))]
    parts: list[Part] = []
    if clusters is not None:
        parts += _map(run, clusters)
    for risk in risks:
        parts += _risk(run, risk)
    made = [each for each in (clusters, *risks, run.last("embeddings")) if each]
    return Panel(parts, made) if parts else None


def _map(run: Record, artifact: Artifact) -> list[Part]:
    every = tables.read(artifact.file("clusters.parquet"), tables.CLUSTERS).sort("instruction_id")
    told = artifact.json("clusters.json")
    frame = every.head(MOST)  # ids are hashes, so the first ones are drawn by chance
    x, y = _unit(frame["x"].to_numpy()), _unit(frame["y"].to_numpy())
    label = frame["cluster"].to_numpy()
    css = {each["cluster"]: colour(i) for i, each in enumerate(told["clusters"][:NAMED])}
    groups: dict[str, list[tuple[float, float]]] = {name: [] for name in ("noise", "other", *css.values())}
    for i, own in enumerate(label.tolist()):
        groups["noise" if own < 0 else css.get(own, "other")].append((float(x[i]), float(y[i])))
    labels = [(*_middle(x, y, label == each["cluster"]), clipped(each["name"], 24)) for each in told["clusters"][:LABELS]
              if (label == each["cluster"]).any()]  # fmt: skip
    shown = (
        f"{count(len(frame))} of {count(len(every))} instructions, drawn by chance"
        if len(frame) < len(every)
        else f"{count(len(every))} instructions"
    )
    n = len(told["clusters"])
    says = f"Map of {shown} in {n} clusters, the largest about {', '.join(each['name'] for each in told['clusters'][:4])}."
    keys = [
        Key(css[each["cluster"]], f"{clipped(each['name'], 30)} ({count(each['instructions'])})", "dot")
        for each in told["clusters"][:NAMED]
    ]
    keys += [Key("other", f"other clusters ({n - NAMED})", "dot")] if n > NAMED else []
    keys += [Key("noise", f"in none ({count(told['noise'])})", "dot")] if told["noise"] else []
    table = Table(("cluster", "instructions", "rows"), [[c["name"], c["instructions"], c["rows"]] for c in told["clusters"]])
    title = f"{shown[0].upper()}{shown[1:]}; near texts lie near each other"
    out: list[Part] = [Figure(title, points(groups, labels, says=says), table, keys=tuple(keys))]
    coverage = run.last("coverage")
    return [*out, *([_covered(coverage, frame, x, y)] if coverage else [])]


def _unit(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return 0.02 + 0.96 * (values - low) / max(high - low, 1e-12)


def _middle(x: np.ndarray, y: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    return float(np.median(x[own])), float(np.median(y[own]))


def _covered(artifact: Artifact, frame: pl.DataFrame, x: np.ndarray, y: np.ndarray) -> Figure:
    """Draw the same map by how uncovered each instruction of an earlier phase is, averaged over the phases."""
    found = tables.read(artifact.file("scores.parquet"), tables.INSTRUCTION_SCORE)
    mean = dict(found.group_by("instruction_id").agg(pl.col("value").mean()).iter_rows())
    groups: dict[str, list[tuple[float, float]]] = {name: [] for name in ("noise", *(f"h{i}" for i in range(5)))}
    for i, key in enumerate(frame["instruction_id"].to_list()):
        value = mean.get(key)
        groups["noise" if value is None else f"h{min(int(5 * value), 4)}"].append((float(x[i]), float(y[i])))
    counts = [len(groups[f"h{i}"]) for i in range(5)]
    rows = [[word, f"{20 * i} % to {20 * (i + 1)} %", counts[i]] for i, word in enumerate(LEVELS)]
    rows.append(["not of an earlier phase", "", len(groups["noise"])])
    ends = f"{count(counts[4])} are uncovered and {count(counts[0])} covered"
    says = f"Of {count(sum(counts))} instructions of earlier phases, {ends}."
    keys = (*(Key(f"h{i}", word, "dot") for i, word in enumerate(LEVELS)), Key("noise", "not of an earlier phase", "dot"))
    title = "The same map: what new instructions leave uncovered of earlier ones"
    table = Table(("instructions of earlier phases", "uncovered mass", "number"), rows)
    return Figure(title, points(groups, (), says=says), table, keys=keys)


def _risk(run: Record, artifact: Artifact) -> list[Part]:
    risk = artifact.json("risk.json")
    earlier = list(dict.fromkeys(domain for of in risk["phases"] for domain in of))
    if not earlier:
        return []
    named = [phase["name"] for phase in run.phases] or [f"phase {i + 1}" for i in range(len(risk["phases"]))]
    rows = [(name, of) for name, of in zip(named, risk["phases"], strict=False) if of]
    cells = [[of.get(domain) for domain in earlier] for _, of in rows]
    most = max((value, domain, name) for name, of in rows for domain, value in of.items())
    says = f"{TITLES[artifact.kind]}. Largest: {most[1]} in the phase {most[2]}, {most[0]:.3f}."
    told = [(i, name, d, v) for i, (name, of) in enumerate(zip(named, risk["phases"], strict=False)) for d, v in of.items()]
    columns, values = ["phase", "earlier domain", risk["measure"]], [list(row[1:]) for row in told]
    if "alone" in risk:
        columns.append("none near at all")
        values = [[*row, risk["alone"][i].get(d)] for row, (i, _, d, _) in zip(values, told, strict=True)]
    table = Table(tuple(columns), values)
    title = f"{TITLES[artifact.kind]} (near: a distance up to {risk['near']:g})"
    plot = heat([name for name, _ in rows], earlier, cells, says=says, reach=(0.0, max(1.0, most[0])))
    return [Figure(title, plot, table), *_least_covered(run, artifact)]


def _least_covered(run: Record, artifact: Artifact) -> list[Part]:
    samples = run.last("samples")
    if artifact.kind != "coverage" or samples is None:
        return []
    scores = tables.read(artifact.file("scores.parquet"), tables.INSTRUCTION_SCORE)
    texts = tables.read(samples.file("instructions.parquet"), tables.INSTRUCTION)
    mean = scores.group_by("instruction_id").agg(pl.col("value").mean()).join(texts, on="instruction_id")
    shown = mean.sort(["value", "text"], descending=[True, False]).head(EXAMPLES)
    rows: list[Sequence[Any]] = [[row["text"], row["value"]] for row in shown.iter_rows(named=True)]
    whole = float((mean["value"].to_numpy() > 0.9).mean())
    title = "Instructions that new ones cover least"
    return [Words(f"{share(whole)} of the earlier instructions are left uncovered almost wholly (by 90 % of their mass)."),
            Table(("instruction", "uncovered"), rows, title)]  # fmt: skip


def by_phase(run: Record, kind: str) -> Sequence[Mapping[str, float]]:
    """Return what a risk artifact says of every phase's earlier domains; nothing where there is none."""
    risk = run.json(kind, "risk.json")
    return risk["phases"] if risk else ()


CHAPTER = Chapter(
    "instructions", "What the instructions are about",
    "Instructions grouped by meaning, and which of the earlier ones nothing new comes near.", panel,
)  # fmt: skip
