"""How much the instructions say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from composer import tables
from composer.report.draw import columns
from composer.report.numbers import count
from composer.report.record import Record
from composer.report.section import Beside, Chapter, Figure, Panel, Table, Words

BINS = 32


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:
    """Return the distribution of one run's InsInfo, with the instructions at its ends."""
    artifact = run.last("scores")
    values = _values(run)
    if artifact is None or not len(values):
        return None
    every = np.concatenate([_values(each) for each in runs])
    low, high = float(every.min()), float(every.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    counts = np.histogram(values, edges)[0].tolist()
    lower, middle, upper = np.quantile(values, (0.1, 0.5, 0.9))
    half = f"Half of {count(len(values))} instructions have an InsInfo below {middle:.2f}"
    says = f"{half}; eight in ten lie from {lower:.2f} to {upper:.2f}."
    table = Table(("from", "to", "instructions"), [[float(edges[i]), float(edges[i + 1]), c] for i, c in enumerate(counts)])
    plot = columns(counts, edges.tolist(), says=says, axis="InsInfo, nats")
    figure = Figure("How many instructions have which InsInfo", plot, table)
    ranking = artifact.json("ranking.json")
    ends = tuple(
        Table(
            ("instruction", "InsInfo"),
            [[each["text"], each["value"]] for each in ranking[end]],
            f"The instructions that say {end}",
        )
        for end in ("most", "least")
    )
    return Panel([figure, Words(says), Beside(ends)], [each for each in (artifact, run.last("tags")) if each])


def _values(run: Record) -> np.ndarray:
    """Return the InsInfo of every instruction in the last phase that was scored."""
    artifact = run.last("scores")
    if artifact is None:
        return np.zeros(0)
    frame = tables.read(artifact.file("scores.parquet"), tables.INSTRUCTION_SCORE)
    last = frame.filter(frame["phase"] == frame["phase"].max()) if frame["phase"].max() is not None else frame
    return last["value"].to_numpy()


CHAPTER = Chapter(
    "scores", "How much instructions say",
    "InsInfo adds up how rare an instruction's tags are: high for what is specific, low for what is said everywhere.", panel,
)  # fmt: skip
