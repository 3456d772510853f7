"""The stage that compares: from what every run kept to differences, verdicts and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.artifact import Artifact
from composer.errors import InputError
from composer.fingerprint import write_json
from composer.trial.compare import Comparison, compare
from composer.trial.paired import finite
from flows.trials.design import Design
from flows.trials.measures import MEASURES, measure_of

Stats = Mapping[str, Any]
Values = dict[str, list[float | None]]


def trial(folder: Path, *, design: Design, **runs: Sequence[Artifact]) -> Stats:
    """Compare the arms of a trial with its controls."""
    reports = {name: kept.json("retention.json") for name, (kept, *_) in runs.items()}
    names = [design.measure, *(name for name in MEASURES if name != design.measure)]
    values = {name: _values(design, reports, name) for name in names}
    if missing := [design.run(arm, seed) for arm, own in values[design.measure].items()
                   for seed, value in zip(design.seeds, own, strict=True) if not finite([value])]:  # fmt: skip
        hint = "choose another measure; all runs are kept"
        got = f"{', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}"
        raise InputError(f"some runs have no {design.measure}", where="measure", got=got, hint=hint)
    compared = {name: _compared(design, name, own) for name, own in values.items()}
    said = [each.said(design.measure) for each in compared[design.measure]]
    write_json(folder / "trial.json", {
        "design": design, "values": values, "verdicts": said,
        "comparisons": {name: [each.model_dump(mode="json") for each in found] for name, found in compared.items()},
        "trained": {arm.name: _trained(design, arm.name, runs) for arm in design.arms},
    })  # fmt: skip
    return {
        "measure": design.measure,
        "verdicts": said,
        "spent": {arm.name: _spent(design, arm.name, runs) for arm in design.arms},
    }


def _values(design: Design, reports: Mapping[str, Any], name: str) -> Values:
    read = measure_of(name).read
    return {arm.name: [read(reports[design.run(arm.name, seed)]) for seed in design.seeds] for arm in design.arms}


def _compared(design: Design, name: str, values: Values) -> tuple[Comparison, ...]:
    """Return all comparisons in one measure; none in one that some run does not have."""
    if not all(finite(own) for own in values.values()):
        return ()
    measure = measure_of(name)
    worth = design.worth if name == design.measure else measure.worth
    known = {arm: [float(value) for value in own if value is not None] for arm, own in values.items()}
    return compare(known, controls=design.controls, better=measure.better, worth=worth)


def _trained(design: Design, arm: str, runs: Mapping[str, Sequence[Artifact]]) -> dict[str, float]:
    """Return what an arm's runs trained on and with, the mean over the seeds; no clock has a say in it."""
    own = [[each.manifest.stats for each in runs[design.run(arm, seed)][1:]] for seed in design.seeds]
    models = [[stats for stats in each if "optimizer_bytes" in stats] for each in own]
    n = len(design.seeds)
    return {
        "steps": sum(stats.get("steps", 0) for each in own for stats in each) / n,
        "loss_tokens": sum(stats["n_loss_tokens"] for each in models for stats in each) / n,
        "parameters": sum(each[-1]["trainable_parameters"] for each in models) / n,
        "optimizer_bytes": sum(each[-1]["optimizer_bytes"] for each in models) / n,
    }


def _spent(design: Design, arm: str, runs: Mapping[str, Sequence[Artifact]]) -> dict[str, float]:
    """Return the seconds that an arm's trainings took, the mean over the seeds."""
    made = [each.manifest.made for seed in design.seeds for each in runs[design.run(arm, seed)][1:]]
    return {name: round(sum(each[name] for each in made) / len(design.seeds), 2) for name in ("seconds", "cpu_seconds")}
