"""What `show` prints of the artifacts that look at instructions. Texts of a dataset are escaped where the table is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from composer.artifact import Artifact
from flows.screen import LONG, number, table

MOST = 20  # rows of a table that could be long
WIDE = 56  # characters of a text in a table


def _similarity(artifact: Artifact) -> list[Any]:
    matrix = artifact.json("similarity.json")
    names, value = matrix["domains"], matrix["value"]
    title = f"{matrix['measure']} {matrix['kind']}"
    if len(names) <= LONG:
        shown: list[Any] = [table(title, ("", *names), [(n, *r) for n, r in zip(names, value, strict=True)])]
    else:
        pairs = sorted((value[i][j], names[i], names[j]) for i in range(len(names)) for j in range(i))
        rows = [(a, b, v) for v, a, b in (*pairs[:5], *pairs[-5:])]
        shown = [table(f"{title}: the five nearest and the five farthest pairs", ("domain", "domain", ""), rows, text=2)]
    return [*shown, *_errors(matrix)]


def _errors(matrix: Mapping[str, Any]) -> list[Text]:
    """Say how far the values may be off, where they are estimates."""
    told = []
    if matrix.get("low") is not None and matrix["low"] != matrix["high"]:
        widths = [
            h - low
            for lows, highs in zip(matrix["low"], matrix["high"], strict=True)
            for low, h in zip(lows, highs, strict=True)
        ]
        told.append(Text(f"Every value lies in a proven interval, at most {number(max(widths))} wide."))
    if matrix.get("stderr") is not None:
        line = f"Standard errors up to {number(max(map(max, matrix['stderr'])))}"
        if matrix.get("excess") is not None:
            line += f"; with half as many points the values are up to {number(max(map(max, matrix['excess'])))} larger"
        told.append(Text(f"{line}."))
    return told


def _risk(artifact: Artifact) -> list[Group]:
    risk = artifact.json("risk.json")
    told = [(i, domain, value) for i, of in enumerate(risk["phases"]) for domain, value in of.items()]
    told.sort(key=lambda row: -row[2])
    more = f", the {MOST} largest of {len(told)}" if len(told) > MOST else ""
    near = f"cost up to {number(risk['near'])}"
    if "alone" not in risk:
        title = f"How far new rows near old ones ({near}) answer otherwise{more}"
        plain = [(f"{i}", domain, value) for i, domain, value in told[:MOST]]
        return [table(title, ("phase", "earlier domain", risk["measure"]), plain, text=2)]
    rows = [(f"{i}", domain, value, risk["alone"][i][domain]) for i, domain, value in told[:MOST]]
    title = f"What the new instructions leave uncovered, and what has no near one at all ({near}){more}"
    return [table(title, ("phase", "earlier domain", "uncovered", "none near"), rows, text=2)]


def _clusters(artifact: Artifact) -> list[Any]:
    told = artifact.json("clusters.json")
    rows = [(each["name"], each["instructions"], each["rows"]) for each in told["clusters"]]
    title = f"{len(rows)} clusters of instructions" + (f", the {MOST} largest" if len(rows) > MOST else "")
    shown: list[Any] = [table(title, ("cluster", "instructions", "rows"), rows[:MOST])]
    return [*shown, Text(f"{told['noise']:,} instructions belong to none.")] if told["noise"] else shown


def _scores(artifact: Artifact) -> list[Group]:
    ranking = artifact.json("ranking.json")
    rows = [(end, " ".join(each["text"].split())[:WIDE], each["value"]) for end in ("most", "least") for each in ranking[end]]
    title = f"InsInfo of {artifact.manifest.stats['instructions']:,} instructions, nats: those that say most and least"
    return [table(title, ("", "instruction", "InsInfo"), rows, text=2)]


def _embeddings(artifact: Artifact) -> list[Text]:
    stats = artifact.manifest.stats
    return [Text(f"{stats.get('instructions', stats.get('samples')):,} vectors of {stats['dims']} dimensions")]


INSTRUCTION_VIEWS: dict[str, Callable[[Artifact], Sequence[Any]]] = {
    "similarity": _similarity,
    "coverage": _risk,
    "interference": _risk,
    "clusters": _clusters,
    "scores": _scores,
    "embeddings": _embeddings,
    "sample_embeddings": _embeddings,
}
