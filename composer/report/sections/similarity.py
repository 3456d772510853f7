"""How near domains lie to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from composer.report.draw import heat
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Panel, Table, Words
from composer.similarity_matrix import side_by_side

PAIRS = 300  # rows of the table; fifty domains have 1,225 pairs


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:
    """Return the heat map of one run's distances."""
    artifact = run.last("similarity")
    if artifact is None or len(artifact.json("similarity.json")["domains"]) < 2:
        return None
    matrix = artifact.json("similarity.json")
    value = np.array(matrix["value"])
    order = side_by_side(value) if matrix["kind"] == "distance" else np.arange(len(value))
    names = [matrix["domains"][i] for i in order]
    cells = [[None if i == j else float(value[i, j]) for j in order] for i in order]
    pairs = sorted((float(value[i, j]), i, j) for i in range(len(value)) for j in range(i))
    near, far = (f"{matrix['domains'][j]} and {matrix['domains'][i]} ({v:.3f})" for v, i, j in (pairs[0], pairs[-1]))
    says = f"Matrix of {len(names)} domains. Smallest value: {near}. Largest: {far}."
    title = f"{matrix['kind'].capitalize()} between domains ({matrix['measure']}); near ones stand side by side"
    figure = Figure(title, heat(names, names, cells, says=says, reach=_reach(runs)), _table(matrix, pairs))
    first, last = ("Nearest", "farthest apart") if matrix["kind"] == "distance" else ("Least alike", "most alike")
    return Panel([figure, Words(f"{first} are {near}; {last} are {far}."), *_errors(matrix)], [artifact])


def _reach(runs: Sequence[Record]) -> tuple[float, float]:
    found = [np.array(m["value"]) for run in runs if (m := run.json("similarity", "similarity.json"))]
    off = np.concatenate([v[~np.eye(len(v), dtype=bool)] for v in found])
    return (float(off.min()), float(off.max())) if off.size else (0.0, 1.0)


def _table(matrix: Mapping[str, Any], pairs: Sequence[tuple[float, int, int]]) -> Table:
    bounds = [name for name in ("low", "high", "stderr") if matrix.get(name) is not None]
    rows = [[matrix["domains"][j], matrix["domains"][i], v, *(matrix[name][i][j] for name in bounds)] for v, i, j in pairs]
    cut = f"The {PAIRS} nearest of {len(rows):,} pairs" if len(rows) > PAIRS else ""
    return Table(("domain", "domain", matrix["kind"], *bounds), rows[:PAIRS], cut)


def _errors(matrix: Mapping[str, Any]) -> list[Words]:
    if matrix.get("stderr") is not None:
        return [Words(f"The values are estimates with standard errors up to {max(map(max, matrix['stderr'])):.3f}.")]
    if matrix.get("low") is not None and matrix["low"] != matrix["high"]:
        wide = float((np.array(matrix["high"]) - np.array(matrix["low"])).max())
        return [Words(f"Every value lies in a proven interval, at most {wide:.3f} wide.")]
    return []


CHAPTER = Chapter(
    "similarity", "How near the domains are",
    "The distance between the instructions of every pair of domains; what is near can help, and can overwrite.", panel,
)  # fmt: skip
