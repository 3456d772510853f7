"""A foreseen cost as a person reads it, in the terminal and in a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.scale.scenario import GB

SPANS = (("d", 2 * 86_400.0, 86_400.0), ("h", 3_600.0, 3_600.0), ("min", 90.0, 60.0))
COLUMNS = ("stage", "where", "amount", "time", "cost", "disk", "memory", "GPU")
WORDS = 2


def span(seconds: float | None) -> str:
    """Return a time in the unit in which it is read.

    Examples
    --------
    >>> span(0.0), span(12.34), span(600), span(7200), span(864_000), span(None)
    ('-', '12 s', '10 min', '2.0 h', '10.0 d', 'not known')
    """
    if seconds is None:
        return "not known"
    for word, least, unit in SPANS:
        if seconds >= least:
            return f"{seconds / unit:.0f} {word}" if word == "min" else f"{seconds / unit:,.1f} {word}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s" if seconds else "-"


def size(n_bytes: float) -> str:
    """Return bytes in gigabytes, or megabytes below one.

    Examples
    --------
    >>> size(0), size(2.5e6), size(1.234e9), size(141e9)
    ('-', '2 MB', '1.2 GB', '141 GB')
    """
    if not n_bytes:
        return "-"
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes < GB else f"{n_bytes / GB:,.{0 if n_bytes >= 100 * GB else 1}f} GB"


def rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for every stage that takes time or may, and one for all."""
    out = [
        (each["stage"], each["where"], f"{each['amount']:,.0f} {each['unit']}", span(each["seconds"]), _money(each["cost"]),
         size(each["disk_bytes"]), size(each["memory_bytes"]), size(each["gpu_bytes"]))
        for each in document["stages"] if each["seconds"] != 0
    ]  # fmt: skip
    totals = document["totals"]
    return [*out, ("all", "", "", span(totals["seconds"]), _money(totals["cost"]), size(totals["disk_bytes"]), "", "")]


def remarks(document: Mapping[str, Any]) -> list[str]:
    """Return what is to be said below the table."""
    totals, money = document["totals"], document["currency"]
    own, held = (f"{totals[of]:,.1f} node-hours" for of in ("node_hours", "held_node_hours"))
    out = [
        f"Costs are in {money}, of the nodes that each stage holds, {own} in all. "
        f"Where all nodes are held throughout it is {held} and {_money(totals['held_cost'])}."
    ]
    if document["unknown"]:
        out.append(f"Not known, and in no sum: {', '.join(document['unknown'])}.")
    return out


def show(document: Mapping[str, Any]) -> None:
    """Print a foreseen cost."""
    from flows.screen import out, table

    title = f"Cost of {document['recipe']} at {document['scenario']}"
    out.print(table(title, COLUMNS, rows(document), text=WORDS))
    for remark in remarks(document):
        out.print(remark, markup=False)
    for each in document["does_not_fit"]:
        out.print(f"does not fit: {each}", markup=False)
    told = [
        (name, f"{rate['value']:.3g}", rate["unit"], rate["kind"], rate["source"]) for name, rate in document["rates"].items()
    ]
    out.print(table("Rates", ("rate", "value", "unit", "origin", "where"), told, text=5))


def markdown(document: Mapping[str, Any]) -> str:
    """Return the tables of a page: stages, what does not fit, and rates."""
    told = [
        (f"`{name}`", f"{rate['value']:.3g}", rate["unit"], rate["kind"], rate["source"])
        for name, rate in document["rates"].items()
    ]
    formulas = [(each["stage"], f"`{each['formula']}`") for each in document["stages"] if each["formula"] != "-"]
    parts = [_grid(COLUMNS, rows(document), words=WORDS + 1), *remarks(document)]
    if document["does_not_fit"]:
        parts.append("What does not fit, or not by itself:\n\n" + "\n".join(f"- {each}" for each in document["does_not_fit"]))
    parts += [
        _grid(("stage", "seconds"), formulas, words=2),
        _grid(("rate", "value", "unit", "origin", "where"), told, words=5),
    ]
    return "\n\n".join(parts)


def _grid(columns: Sequence[str], cells: Sequence[Sequence[str]], *, words: int) -> str:
    rule = ["---" if i < words else "--:" for i in range(len(columns))] if words < len(columns) else ["---"] * len(columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *cells))


def _money(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
