"""What the doctor prints: one table of all sources, then what deserves a look, each thing only where there is some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from flows.doctor import dropped_share
from flows.screen import out, table

BAR = 40  # characters of the longest bar
CUT = 600  # characters of a shown run

Report = Mapping[str, Any]


def show(report: Report) -> None:
    """Print a report of the doctor."""
    sources = report["sources"]
    columns = ("source", "seen", "kept", "repaired", "dropped", "filtered")
    rows = [
        [s["name"], s["seen"], s["kept"], s["repaired"], sum(s["dropped"].values()), s["filtered"]] for s in sources
    ]  # fmt: skip
    total = ["all", *(sum(row[i] for row in rows) for i in range(1, len(columns)))]
    out.print(table("Rows", columns, [*rows, total] if len(rows) > 1 else rows))
    _shapes(sources)
    _dropped(sources)
    _duplicates(report["duplicates"])
    _contamination(report["decontamination"])
    _lengths(sources)
    _template(sources)
    _licences(report["licences"])
    _preview(report["preview"])
    _verdict(report)


def _shapes(sources: list[Report]) -> None:
    out.print(Text("Shapes and repairs", style="bold"))
    for source in sources:
        told = f"{source['name']}: {_counts(source['shapes']) or 'no rows'}"
        out.print(Text(told + (f"; repaired {_counts(source['repairs'])}" if source["repairs"] else "")))
    out.print()


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())


def _dropped(sources: list[Report]) -> None:
    if not any(source["dropped"] for source in sources):
        return
    out.print(Text("Dropped rows, with the first of each reason", style="bold"))
    for source in sources:
        for reason, n in source["dropped"].items():
            out.print(Text(f"{source['name']}: {n:,} {reason}"))
            for example in source["examples"].get(reason, []):
                line = Text(f"    row {example['row']:,}: {' '.join(str(example['text']).split())}", style="dim")
                line.truncate(out.width, overflow="ellipsis")
                out.print(line)
    out.print()


def _duplicates(report: Report) -> None:
    rows = [(name, "within", n, "-") for name, n in report["within"].items()]
    for name, source in report.get("sources", {}).items():
        origins = ", ".join(source["copies_of"]) or "-"
        rows += [(name, reason, n, origins) for reason, n in source["dropped"].items()]
        if source["taken_back"]:
            rows.append((name, "kept by the floor", source["taken_back"], "-"))
    if rows:
        shown = [(name, reason, origins, n) for name, reason, n, origins in rows]
        out.print(table("Copies", ("source", "reason", "of", "rows"), shown, text=3))
    if report.get("emptied"):
        out.print(Text(f"Nothing is left of {', '.join(report['emptied'])}.\n", style="bold"))


def _contamination(report: Report) -> None:
    rows = [
        (name, source, found["rows"], found["examples"][0]["row"], found["examples"][0]["text"][:60])
        for name, each in report.items()
        for source, found in each["sources"].items()
    ]
    if rows:
        shown = [(name, source, text, row, n) for name, source, n, row, text in rows]
        out.print(table("Evaluation texts", ("set", "in", "such as", "at row", "rows"), shown, text=3))
    elif report:
        out.print(Text(f"No evaluation text of {', '.join(report)} in any row.\n"))


def _lengths(sources: list[Report]) -> None:
    bins: dict[str, int] = {}
    for source in sources:
        for edge, n in source["lengths"]["at_most"].items():
            bins[edge] = bins.get(edge, 0) + n
    if not bins:
        return
    edges = sorted(bins, key=lambda edge: (edge == "more", int(edge) if edge != "more" else 0))
    most = max(bins.values())
    rows = [(edge, "#" * max(1, round(BAR * bins[edge] / most)), bins[edge]) for edge in edges]
    unit = sources[0]["lengths"]["unit"]
    out.print(table("Lengths of the kept rows", (f"{unit} at most", "", "rows"), rows, text=2))


def _template(sources: list[Report]) -> None:
    if "tokens" not in sources[0]:
        return
    names = ("tokens", "loss_tokens", "truncated", "no_loss_tokens", "adapted")
    rows = [(s["name"], *(s[name] for name in names)) for s in sources]
    out.print(table("Under the chat template", ("source", "tokens", "loss", "cut", "no loss", "adapted"), rows))
    for source in sources:
        if source["not_carried"]:
            out.print(Text(f"{source['name']}: the template leaves out {_counts(source['not_carried'])}"))


def _licences(report: Report) -> None:
    out.print(table("Licences", ("licence", "rows"), list(report["rows"].items())))
    for each in report["conflicts"]:
        out.print(Text(f"{', '.join(each['between'])} ({each['rows']:,} rows): {each['why']}"))
    if report["conflicts"]:
        out.print(Text("Licences are read by their names; this is no legal advice.\n", style="dim"))


def _preview(rows: list[Report]) -> None:
    for row in rows:
        shown = Text(f"{row['source']}, row {row['row']:,}, as the model reads it; ", style="bold")
        shown.append("trained on", style="bold reverse")
        shown.append(" is marked >>thus<<\n")
        for run in row["runs"]:
            text = run["text"] if len(run["text"]) <= CUT else f"{run['text'][:CUT]} ..."
            if run["trained"] is None:
                shown.append(f"\n[cut off here: {text[:40]!r} ...]", style="dim")
            elif run["trained"]:
                shown.append(f">>{text}<<", style="reverse")
            else:
                shown.append(text)
        out.print(shown)
        out.print()


def _verdict(report: Report) -> None:
    worst = max(report["sources"], key=dropped_share)
    out.print(Text(f"At worst {dropped_share(worst):.1%} of a source cannot be used ({worst['name']}), copies aside."))
