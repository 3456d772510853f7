"""Weights and losses of every domain while the model is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from composer import tables
from composer.artifact import Artifact
from composer.report.draw import Mini, colour, minis
from composer.report.numbers import count
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Key, Panel, Part, Table, Words
from composer.report.sections.references import references

STRETCHES = 60  # of training, over each of which a loss is averaged


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:
    """Return the training of one run, phase after phase."""
    models = [each for each in run.models if "trace.parquet" in each.manifest.files]
    if not models:
        return None
    parts: list[Part] = []
    if (looks := _looks(run)) is not None:
        parts += _moving(looks, run, runs)
        beside = [(each, own) for each in runs if (own := _looks(each)) is not None]
        parts += [drawn] if (drawn := references(run, looks, beside)) else []
    if (means := _means(run)) is not None:
        parts.append(_losses(means, run, runs))
    steps = sum(each.manifest.stats["steps"] for each in models)
    first, last = models[0].manifest.stats["loss_first"], models[-1].manifest.stats["loss_last"]
    spec = models[-1].manifest.spec["spec"]
    told = f"{count(steps)} steps in {len(models)} phases" if len(models) > 1 else f"{count(steps)} steps"
    how = f"adapter {spec['adapter']['name']}, learning rate {spec['learning_rate']:g}, batches of {spec['batch_size']}"
    parts.append(Words(f"{told}; {how}. The loss of a batch went from {first:.3f} to {last:.3f} nats per token."))
    return Panel(parts, models)


def _joined(models: Sequence[Artifact], name: str, schema: tables.Schema) -> pl.DataFrame | None:
    """Return a table of all phases, one after another; ``at`` runs from 0 to 1 over all of training."""
    parts, begun = [], 0
    for i, each in enumerate(models):
        if name in each.manifest.files:
            own = tables.read(each.file(name), schema)
            parts.append(own.with_columns(phase=pl.lit(i + 1), seen=pl.col("position").cast(pl.Int64) + begun))
        begun += int(each.manifest.stats["samples"])
    return pl.concat(parts).with_columns(at=pl.col("seen") / max(begun, 1)) if parts else None


def _looks(run: Record) -> pl.DataFrame | None:
    """Return the weights that moved and the held-out losses that moved them; None where none did."""
    return _joined(run.models, "weights.parquet", tables.WEIGHTS)


def _means(run: Record) -> pl.DataFrame | None:
    """Return the training loss of every domain, averaged over stretches of training."""
    trace = _joined(run.models, "trace.parquet", tables.TRACE)
    if trace is None or trace.is_empty():
        return None
    cut = trace.with_columns(stretch=(pl.col("at") * STRETCHES).floor().clip(0, STRETCHES - 1).cast(pl.Int64))
    weighted = (pl.col("loss_nats") * pl.col("n_tokens")).sum() / pl.col("n_tokens").sum()
    return cut.group_by("domain", "stretch").agg(
        loss_nats=weighted, at=pl.col("at").mean(), seen=pl.col("seen").min(), tokens=pl.col("n_tokens").cast(pl.Int64).sum()
    ).sort("domain", "stretch")  # fmt: skip


def _reach(frames: Sequence[pl.DataFrame | None], *columns: str, zero: bool = False) -> tuple[float, float]:
    """Return the scale that all runs share; from zero where that is asked for, or near."""
    values = [float(v) for frame in frames if frame is not None for name in columns for v in frame[name].drop_nulls()]
    low, high = min(values), max(values)
    return (min(0.0, low) if zero or low < high / 2 else low, high)


def _moving(looks: pl.DataFrame, run: Record, runs: Sequence[Record]) -> list[Part]:
    names = run.in_order(sorted(looks["domain"].unique()))
    parts: list[Part] = []
    compared = looks["reference_nats"].is_not_null().any()
    for column, title, stepped in (("weight", "Weight of every domain over training", True),
                                   ("loss_nats", "Held-out loss of every domain, nats per token", False)):  # fmt: skip
        level = (lambda own: own["reference_nats"][0]) if column == "loss_nats" else None
        reach = _reach([_looks(each) for each in runs], column, *(["reference_nats"] if level else []), zero=column == "weight")
        panels = [_mini(looks, name, i, column, level) for i, name in enumerate(names)]
        table = Table(("domain", "step", "samples", column.replace("_", " "), "state"),
                      looks.select("domain", "step", "seen", column, "state").sort("domain", "step").rows())  # fmt: skip
        says = f"{len(names)} domains on one scale from {reach[0]:.2f} to {reach[1]:.2f}. {_moved_most(panels)}"
        keys = (Key("level", "reference", "dash"),) if level and compared else ()
        note = f"All panels share the scale {reach[0]:.2f} to {reach[1]:.2f}; across are the samples trained on."
        parts.append(Figure(title, minis(panels, says=says, reach=_room(reach), stepped=stepped), table, note=note, keys=keys))
    return parts


def _mini(frame: pl.DataFrame, name: str, i: int, column: str, level: Callable[[pl.DataFrame], float | None] | None) -> Mini:
    own = frame.filter(pl.col("domain") == name)
    line = list(zip(own["at"].to_list(), own[column].to_list(), strict=True))
    if line and line[-1][0] < 1 and column == "weight":
        line.append((1.0, line[-1][1]))
    text = f"{line[0][1]:.3f} → {line[-1][1]:.3f}" if line else ""
    return Mini(name, text, line, css=colour(i), level=level(own) if level else None)


def _moved_most(panels: Sequence[Mini]) -> str:
    found = [(abs(p.line[-1][1] - p.line[0][1]), p.name, p.text) for p in panels if p.line]
    return f"{max(found)[1]} moves most, {max(found)[2]}." if found else ""


def _room(reach: tuple[float, float]) -> tuple[float, float]:
    gap = 0.06 * max(reach[1] - reach[0], 1e-9)
    return reach[0] - gap, reach[1] + gap


def _losses(means: pl.DataFrame, run: Record, runs: Sequence[Record]) -> Figure:
    names = run.in_order(sorted(means["domain"].unique()))
    panels = [_mini(means, name, i, "loss_nats", None) for i, name in enumerate(names)]
    reach = _reach([_means(each) for each in runs], "loss_nats")
    table = Table(
        ("domain", "from sample", "loss, nats per token", "tokens"),
        means.select("domain", "seen", "loss_nats", "tokens").rows(),
    )
    says = f"Training loss of {len(names)} domains on one scale up to {reach[1]:.2f} nats per token. {_moved_most(panels)}"
    note = f"Means over stretches of training; all panels share the scale {reach[0]:.2f} to {reach[1]:.2f}."
    return Figure(
        "Training loss of every domain, nats per token", minis(panels, says=says, reach=_room(reach)), table, note=note
    )


CHAPTER = Chapter(
    "training", "Weights and losses over training",
    "What every domain weighed and lost while the model was trained, from the first sample to the last.", panel,
)  # fmt: skip
