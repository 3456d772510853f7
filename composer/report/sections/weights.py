"""Planned against realised weights, in rows, tokens and loss tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from composer.report.draw import Mark, Strip, strips
from composer.report.numbers import count, share
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Key, Panel, Part, Table, Words

UNITS = {"loss_tokens": ("loss tokens", "dot", "c0"), "tokens": ("tokens", "diamond", "c1"), "rows": ("rows", "ring", "c2")}
LONG = 12  # more domains than this are put in the order of their shares


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:
    """Return the weights of one run, and what came of them where it composed."""
    mixture, composition = run.last("mixture"), run.last("composition")
    if composition is None:
        return _only_planned(run)
    domains = _ordered(run.report["domains"])
    told = run.json("mixture", "mixture.json") or {"domains": [], "weights": [], "law": ""}
    weights = dict(zip(told["domains"], told["weights"], strict=True))
    rows = [_strip(each) for each in domains]
    worst = max(domains, key=lambda each: abs(each["realised_share"] - each["planned_share"]))
    off = abs(worst["realised_share"] - worst["planned_share"])
    unit = run.report["unit"].replace("_", " ").replace("samples", "rows")
    says = f"{len(domains)} domains; the realised share differs most from the plan for {worst['domain']}, by {share(off)}."
    keys = (Key("ink", f"planned share of {unit}", "tick"), *(Key(c, f"realised, {w}", s) for w, s, c in UNITS.values()))  # type: ignore[arg-type]
    figure = Figure("Planned and realised shares of every domain", strips(rows, says=says, high=_reach(runs), shares=True),
                    _table(domains, weights), keys=keys)  # fmt: skip
    close = f"The realised share is farthest from the plan in {worst['domain']}: {share(off)} of all {unit}."
    close = close if off >= 5e-4 else f"Every domain got its planned share of {unit}."
    parts: list[Part] = [figure, Words(close), *_shortages(run)]
    return Panel(parts, [each for each in (mixture, composition) if each])


def _ordered(domains: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(domains, key=lambda each: -each["planned_share"]) if len(domains) > LONG else list(domains)


def _strip(each: Mapping[str, Any]) -> Strip:
    marks = [
        Mark(each[f"{unit}_share"], shape, css, f"{word} of {each['domain']}: {share(each[f'{unit}_share'])}")  # type: ignore[arg-type]
        for unit, (word, shape, css) in reversed(UNITS.items())
    ]
    planned = Mark(each["planned_share"], "tick", "ink", f"planned for {each['domain']}: {share(each['planned_share'])}")
    return Strip(each["domain"], share(each["realised_share"]), bar=each["realised_share"], css="pale", marks=(planned, *marks))


def _reach(runs: Sequence[Record]) -> float:
    names = ("planned_share", *(f"{unit}_share" for unit in UNITS))
    shares = [float(each[name]) for run in runs for each in run.report.get("domains", []) for name in names]
    return 1.06 * max([*shares, 1e-6])


def _table(domains: Sequence[Mapping[str, Any]], weights: Mapping[str, float]) -> Table:
    names = ["rows", "share of rows", "tokens", "share of tokens", "loss tokens", "share of loss tokens"]
    rows = [
        [d["domain"], weights.get(d["domain"]), d["planned_share"], d["realised_share"],
         *(v for unit in ("rows", "tokens", "loss_tokens") for v in (d[unit], d[f"{unit}_share"]))]
        for d in domains
    ]  # fmt: skip
    return Table(("domain", "weight of the law", "planned", "realised", *names), rows)


def _shortages(run: Record) -> list[Part]:
    short, unit = run.report["shortages"], run.report["unit"].replace("_", " ")
    if not short:
        return []
    names = ("phase", "domain", "planned", "available", "moved")
    words = "A domain had less than was planned; what was missing went to the others."
    return [
        Words(words, "warn"),
        Table(names, [[s[n] for n in names] for s in short], f"Shortages ({count(len(short))}), {unit}"),
    ]


def _only_planned(run: Record) -> Panel | None:
    found = run.last("mixture")
    if found is None:
        return None
    told = found.json("mixture.json")
    pairs = list(zip(told["domains"], told["weights"], strict=True))
    largest = max(pairs, key=lambda pair: pair[1])
    plot = strips(
        [Strip(d, share(w), bar=w) for d, w in pairs],
        says=f"The largest weight is that of {largest[0]}, {share(largest[1])}.",
        shares=True,
    )
    return Panel(
        [Figure(f"Weights by the law {told['law']}, shares of {run.unit}", plot, Table(("domain", "weight"), pairs))], [found]
    )


CHAPTER = Chapter(
    "weights", "Weights, planned and realised",
    "The share that each domain was to have and what it got, in rows, in tokens, and in the tokens that are trained on.",
    panel,
)  # fmt: skip
