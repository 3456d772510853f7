"""What was learned, kept and forgotten from stage to stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from composer.report.draw import Mark, Strip, heat, strips
from composer.report.numbers import share, signed
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Key, Panel, Part, Table, Words

MEASURES = (
    ("exact_match", "Exact match", "share of held-out rows answered to the token", "exact_stderr"),
    ("loss_nats_per_token", "Held-out loss", "nats per token; less is better", "stderr"),
)  # fmt: skip


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:
    """Return the scores of one run's stages."""
    if not run.retention or len(run.retention["stages"]) < 2:
        return None
    parts: list[Part] = []
    for name, title, unit, stderr in MEASURES:
        if any(value for row in run.retention[name] for value in row):
            drawn = _matrix if len(run.retention["stages"]) > 2 else _before_after
            parts.append(drawn(run, runs, name, f"{title}, {unit}", stderr))
    if not any(value for row in run.retention["exact_match"] for value in row):
        parts.append(Words("No held-out row was answered to the token at any stage, so exact match says nothing here."))
    if len(run.retention["stages"]) > 2:
        parts += _forgetting(run.retention)
    return Panel(parts, [each for each in (run.last("retention"), *run.evaluations) if each])


def _reach(runs: Sequence[Record], name: str) -> tuple[float, float]:
    values = [v for run in runs for row in (run.retention or {name: []})[name] for v in row if v is not None]
    return (0.0 if name == "exact_match" else min(values), max(values))


def _matrix(run: Record, runs: Sequence[Record], name: str, title: str, stderr: str) -> Figure:
    told = run.retention
    stages, domains, values = told["stages"], told["domains"], told[name]
    new = frozenset((k, domains.index(d)) for k, current in enumerate(told["current"]) for d in current if d in domains)
    errors = _errors(run, stderr)
    rows = [
        [stage, domain, value, errors[k].get(domain), (k, j) in new]
        for k, stage in enumerate(stages) for j, (domain, value) in enumerate(zip(domains, values[k], strict=True))
    ]  # fmt: skip
    says = f"{len(stages)} stages by {len(domains)} domains. {_ends(told, name)}"
    plot = heat(stages, domains, values, says=says, outlined=new, reach=_reach(runs, name))
    table = Table(("after stage", "domain", name.replace("_", " "), "standard error", "trained in it"), rows)
    return Figure(f"{title}; a border where the domain was trained in the stage", plot, table)


def _ends(told: Mapping[str, Any], name: str) -> str:
    pairs = [(domain, told[name][0][j], told[name][-1][j]) for j, domain in enumerate(told["domains"])]
    return (
        "From the first to the last stage: "
        + "; ".join(f"{d} {a:.2f} to {b:.2f}" for d, a, b in pairs[:8] if a is not None and b is not None)
        + "."
    )


def _errors(run: Record, stderr: str) -> list[dict[str, float | None]]:
    found = [each.json("evaluation.json") for each in run.evaluations]
    errors = [{domain: summary.get(stderr) for domain, summary in each.items()} for each in found]
    return errors + [{} for _ in range(len(run.retention["stages"]) - len(errors))]


def _before_after(run: Record, runs: Sequence[Record], name: str, title: str, stderr: str) -> Figure:
    told = run.retention
    before, after = told[name]
    errors = _errors(run, stderr)
    low, high = _reach(runs, name)
    gap = 0.05 * max(high - low, 1e-9)
    strips_, rows = [], []
    for domain, a, b in zip(told["domains"], before, after, strict=True):
        error = errors[1].get(domain) or 0.0
        marks = (Mark(a, "ring", "c1", f"{domain} before: {a:.3f}"), Mark(b, "dot", "c0", f"{domain} after: {b:.3f}"))
        strips_.append(Strip(domain, signed(b - a), interval=(b - 1.96 * error, b + 1.96 * error), marks=marks))
        rows.append([domain, a, errors[0].get(domain), b, errors[1].get(domain), b - a])
    keys = (Key("c1", "before training", "ring"), Key("c0", "after, with the interval of 95 %", "dot"))
    table = Table(("domain", "before", "standard error", "after", "standard error", "change"), rows)
    high = max(high + gap, *(row.interval[1] for row in strips_ if row.interval))
    plot = strips(strips_, says=_ends(told, name), low=0.0 if name == "exact_match" else low - gap, high=high)
    return Figure(title, plot, table, keys=keys)


def _forgetting(told: Mapping[str, Any]) -> list[Part]:
    fields = ("since", "exact_match_rate", "loss_increase_nats")
    rows = [[domain, *(told["forgetting"][domain][field] for field in fields)] for domain in told["domains"]]
    columns = ("domain", "since its stage", "% of exact match lost", "loss increase, nats")
    parts: list[Part] = []
    if (mean := told["mean_relative_gain"]["percent"]) is not None:
        of = (
            "what an expert of the domain alone reaches"
            if told["upper"] == "expert"
            else "what it was right after its own stage"
        )
        parts.append(
            Words(f"On average over the stages the earlier domains are at {share(mean / 100)} of {of} (relative gain).")
        )
    if (moved := told["backward_transfer"]["exact_match"]) is not None:
        text = (
            f"From its own stage to the end a domain's exact match changed by {signed(moved)} on average (backward transfer)."
        )
        parts.append(Words(text))
    return [*parts, Table(columns, rows, "Forgotten from the domain's own stage to the end")]


CHAPTER = Chapter(
    "retention", "What was kept",
    "Every domain's score on held-out rows, before training and after each stage of it.", panel,
)  # fmt: skip
