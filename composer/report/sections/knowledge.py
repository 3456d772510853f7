"""What the base model knows, with intervals, beside the weights that came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from composer.report.draw import Mark, Strip, strips
from composer.report.numbers import count, share
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Key, Panel, Table, Words

KEYS = (
    Key("c0", "known, with the interval of 2.5 % to 97.5 %"), Key("c1", "weight in the mixture", "diamond"),
    Key("ink", "documents the base model was trained on", "tick"),
)  # fmt: skip


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:
    """Return the knowledge of one run's base model."""
    artifact = run.last("knowledge")
    if artifact is None:
        return None
    known = artifact.json("knowledge.json")
    mixture = run.json("mixture", "mixture.json") or {"domains": [], "weights": []}
    weights = dict(zip(mixture["domains"], mixture["weights"], strict=True))
    truth = _documents(run)
    rows = []
    for name, p, low, high in zip(known["domains"], known["p"], known["low"], known["high"], strict=True):
        marks = [Mark(weights[name], "diamond", "c1", f"weight of {name}: {weights[name]:.3f}")] if name in weights else []
        marks += [Mark(truth[name], "tick", "ink", f"documents: {truth[name]:.3f}")] if name in truth else []
        rows.append(Strip(name, share(p), bar=p, interval=(low, high), marks=tuple(marks)))
    most = max(zip(known["p"], known["domains"], strict=True))
    least = min(zip(known["p"], known["domains"], strict=True))
    says = f"The base model knows most of {most[1]}, {share(most[0])}, and least of {least[1]}, {share(least[0])}."
    title = f"Share of every domain in what the base model knows ({known['probe'].replace('_', ' ')})"
    keys = KEYS if truth else KEYS[:2]
    figure = Figure(title, strips(rows, says=says, high=_reach(runs), shares=True), _table(known, weights, truth), keys=keys)
    return Panel((figure, *map(Words, _notes(known))), (artifact,))


def _reach(runs: Sequence[Record]) -> float:
    """Return the end of the scale that all runs share."""
    ends: list[float] = [v for run in runs for v in (run.json("knowledge", "knowledge.json") or {"high": []})["high"]]
    ends += [v for run in runs for v in (run.json("mixture", "mixture.json") or {"weights": []})["weights"]]
    return 1.04 * max([*ends, *(v for run in runs for v in _documents(run).values()), 1e-6])


def _documents(run: Record) -> dict[str, float]:
    """Return the shares of the base model's documents, where the recipe trained it."""
    base = run.last("base")
    return {domain: told["document_share"] for domain, told in base.manifest.stats["domains"].items()} if base else {}


def _table(known: Mapping[str, Any], weights: Mapping[str, float], truth: Mapping[str, float]) -> Table:
    fields = ["domains", "p", "stderr", "low", "high"]
    names = ["domain", "known", "standard error", "2.5 %", "97.5 %"]
    if known.get("low_with_judge") is not None:
        fields += ["low_with_judge", "high_with_judge"]
        names += ["with the judge: 2.5 %", "97.5 %"]
    rows = [[*each, weights.get(each[0])] for each in zip(*(known[f] for f in fields), strict=True)]
    if truth:
        rows = [[*row, truth.get(row[0])] for row in rows]
    return Table((*names, "weight", *(["documents"] if truth else [])), rows)


def _notes(known: Mapping[str, Any]) -> list[str]:
    judged = f"{count(known['n'])} texts were judged and {count(known['rejected'])} rejected"
    accuracy = f"; the judge was right on {share(known['accuracy'])} of reference texts" if known.get("accuracy") else ""
    return [f"{judged}{accuracy}.", *([known["note"]] if known.get("note") else [])]


CHAPTER = Chapter(
    "knowledge", "What the base model knows",
    "How much of each domain is in what the model writes or answers by itself, before any training.", panel,
)  # fmt: skip
