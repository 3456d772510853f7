"""Rows that did not come through, and why."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from composer import tables
from composer.report.draw import Strip, strips
from composer.report.numbers import clipped, count, share
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Panel, Part, Table, Words

EXAMPLES = 2  # rows of every reason
WIDE = 240


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:  # noqa: ARG001
    """Return what one run read, repaired and dropped."""
    sources = run.every("source")
    if not sources:
        return None
    samples = run.last("samples")
    frames = [tables.read(each.file("dropped.parquet"), tables.DROPPED) for each in ([samples] if samples else sources)]
    dropped = pl.concat(frames)
    seen = sum(each.manifest.stats["seen"] for each in sources)
    repaired = sum(each.manifest.stats["repaired"] for each in sources)
    part = share(len(dropped) / max(seen, 1))
    head = f"Of {count(seen)} rows that were read, {count(repaired)} were repaired and {count(len(dropped))} dropped ({part})."
    parts: list[Part] = [Words(head)]
    if len(dropped):
        parts += [_reasons(dropped), _examples(dropped)]
    rows = [
        [s["spec"]["name"], s["spec"]["domain"], s["spec"]["role"], *(s["stats"][n] for n in ("seen", "repaired")),
         sum(s["stats"]["dropped"].values()), s["stats"]["truncated"], s["stats"]["kept"]]
        for s in ({"spec": each.manifest.spec["source"], "stats": each.manifest.stats} for each in sources)
    ]  # fmt: skip
    columns = ("source", "domain", "role", "read", "repaired", "dropped on reading", "cut at the length", "kept")
    parts.append(Table(columns, rows, "Sources"))
    return Panel(parts, [each for each in (samples, *sources) if each])


def _reasons(dropped: pl.DataFrame) -> Figure:
    counts = dropped.group_by("reason").len("rows").sort(["rows", "reason"], descending=[True, False])
    rows = [Strip(reason.replace("_", " "), count(n), bar=float(n), css="c3") for reason, n in counts.iter_rows()]
    by_source = (
        dropped.group_by("source", "reason").len("rows").sort("source", "reason").with_columns(pl.col("rows").cast(pl.Int64))
    )
    says = "; ".join(f"{n:,} for {reason.replace('_', ' ')}" for reason, n in counts.head(6).iter_rows()) + "."
    return Figure(
        "Dropped rows by reason", strips(rows, says=says, axis="rows"), Table(("source", "reason", "rows"), by_source.rows())
    )


def _examples(dropped: pl.DataFrame) -> Table:
    some = dropped.sort("reason", "source", "row").group_by("reason", maintain_order=True).head(EXAMPLES)
    rows = [
        [r["reason"].replace("_", " "), r["source"], int(r["row"]), clipped(r["text"] or "", WIDE)]
        for r in some.iter_rows(named=True)
    ]
    return Table(("reason", "source", "row", "beginning of the row"), rows, "Examples")


CHAPTER = Chapter(
    "dropped", "Rows that were dropped",
    "Nothing is lost in silence: every row that was read is kept, repaired, or dropped for a reason that is counted.", panel,
)  # fmt: skip
