"""Two runs side by side: what was asked for otherwise, and what came of it, name by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from composer.report.draw import Mark, Strip, strips
from composer.report.numbers import clipped, signed
from composer.report.record import Record
from composer.report.section import Figure, Key, Panel, Part, Table, Words
from composer.report.summary import means, replay_share, seconds

TITLE = "What differs"
LEAD = "What the two runs were asked for otherwise, and how weights, shares and scores came out."
Values = Mapping[str, float | None]


def compared(a: Record, b: Record, differences: Mapping[str, Any]) -> Panel:
    """Return the two runs' differences; ``differences`` holds ``specs`` and ``sources`` as ``mix diff`` finds them."""
    parts: list[Part] = [_totals(a, b), *_asked(differences)]
    for title, of, unit in (
        ("Weight of every domain", _weights, "share"), ("Realised share of every domain", _realised, "share"),
        ("Exact match at the end", lambda run: _final(run, "exact_match"), ""),
        ("Held-out loss at the end, nats per token", lambda run: _final(run, "loss_nats_per_token"), "loss"),
    ):  # fmt: skip
        parts += _drawn(title, of(a), of(b), unit=unit)
    return Panel(parts)


def _totals(a: Record, b: Record) -> Table:
    runs = (a, b)
    told: list[tuple[str, list[float | None]]] = [
        (word, [run.report["total"][name] if run.report else None for run in runs])
        for word, name in (("rows", "rows"), ("tokens", "tokens"), ("loss tokens", "loss_tokens"))
    ]
    told.append(("share of replay", [replay_share(run) for run in runs]))
    for word, name in (("exact match", "exact_match"), ("held-out loss", "loss_nats_per_token")):
        told.append((f"mean {word} at the end", [found[1] if (found := means(run, name)) else None for run in runs]))
    told.append(("seconds of all steps", [round(seconds(run)) for run in runs]))
    return Table(("what", "A", "B", "B less A"), [[word, *both, _less(both)] for word, both in told], "In sum")


def _asked(differences: Mapping[str, Any]) -> list[Part]:
    fields = [[each["step"], each["field"], _shown(each["a"]), _shown(each["b"])] for each in differences["specs"]]
    changed = [[s["source"], s["domain"], s["rows"]["a"], s["rows"]["b"]] for s in differences["sources"] if s["changed"]]
    parts: list[Part] = [Table(("step", "field", "A", "B"), fields, "Asked for otherwise")] if fields else []
    parts += [Table(("source", "domain", "rows of A", "rows of B"), changed, "Sources that changed")] if changed else []
    return parts or [Words("Both were asked for the same over the same data.")]


def _shown(value: object) -> object:
    return value if value is None else clipped(str(value), 60)


def _weights(run: Record) -> Values:
    told = run.json("mixture", "mixture.json")
    return dict(zip(told["domains"], told["weights"], strict=True)) if told else {}


def _realised(run: Record) -> Values:
    return {each["domain"]: each["realised_share"] for each in run.report.get("domains", [])}


def _final(run: Record, name: str) -> Values:
    return dict(zip(run.retention["domains"], run.retention[name][-1], strict=True)) if run.retention else {}


def _drawn(title: str, a: Values, b: Values, *, unit: str) -> list[Part]:
    names = list(dict.fromkeys((*a, *b)))
    pairs = [(name, a.get(name), b.get(name)) for name in names]
    if not any(v for _, *both in pairs for v in both):
        return []
    if a.keys() == b.keys() and all(abs(_less(both) or 0.0) < 5e-4 for _, *both in pairs):
        return [Words(f"{title}: the same in both.")]
    drawn = []
    for name, *both in pairs:
        marks = tuple(
            Mark(v, shape, css, f"{name} of {which}: {v:.3f}")  # type: ignore[arg-type]
            for v, shape, css, which in zip(both, ("ring", "dot"), ("c1", "c0"), "AB", strict=True) if v is not None
        )  # fmt: skip
        known = [v for v in both if v is not None]
        drawn.append(Strip(name, signed(_less(both)), marks=marks, interval=(min(known), max(known)) if known else None))
    table = Table(("domain", "A", "B", "B less A"), [[name, x, y, _less([x, y])] for name, x, y in pairs])
    largest = max(pairs, key=lambda pair: abs(_less(pair[1:]) or 0.0))
    says = f"The largest difference is that of {largest[0]}: {signed(_less(largest[1:]))} from A to B."
    values = [v for _, *both in pairs for v in both if v is not None]
    low = min(values) - 0.06 * (max(values) - min(values)) if unit == "loss" else 0.0
    plot = strips(drawn, says=says, low=low, shares=unit == "share")
    return [Figure(title, plot, table, keys=(Key("c1", "A", "ring"), Key("c0", "B", "dot")))]


def _less(both: Sequence[float | None]) -> float | None:
    a, b = both
    return None if a is None or b is None else b - a
