"""Under which licences the mixed rows stand, and where they came from."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from composer.report.draw import Strip, strips
from composer.report.numbers import count, listed, share
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Panel, Table, Words

UNKNOWN = "not stated"


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:  # noqa: ARG001
    """Return the licences of one run's rows."""
    samples, composition = run.last("samples"), run.last("composition")
    if samples is None:
        return None
    rows = run.samples("source", "domain", "license", "n_tokens", "n_loss_tokens", "role")
    what = "mixed rows" if run.composition is not None else "rows of the pool"
    rows = rows.filter(pl.col("role").is_in(["target", "replay"])) if run.composition is None else rows[run.composition["row"]]
    rows = rows.with_columns(pl.col("license").fill_null(UNKNOWN).replace("", UNKNOWN))
    sums = [pl.len().cast(pl.Int64).alias("rows"), *(pl.col(n).cast(pl.Int64).sum() for n in ("n_tokens", "n_loss_tokens"))]
    by = (
        rows.group_by("license")
        .agg(*sums, pl.col("source").unique().sort())
        .sort(["rows", "license"], descending=[True, False])
    )
    total = max(len(rows), 1)
    drawn = [
        Strip(name, f"{count(n)} ({share(n / total)})", bar=float(n), css="c2")
        for name, n in by.select("license", "rows").iter_rows()
    ]
    says = "; ".join(f"{row.name}: {row.text}" for row in drawn[:6]) + "."
    table = [
        [r["license"], r["rows"], r["n_tokens"], r["n_loss_tokens"], listed(r["source"])] for r in by.iter_rows(named=True)
    ]
    figure = Figure(
        f"Licences of the {what}",
        strips(drawn, says=says, axis="rows"),
        Table(("licence", "rows", "tokens", "loss tokens", "sources"), table),
    )
    own = rows.group_by("source", "domain", "license").agg(*sums).sort("source", "license")
    content = {each.manifest.spec["source"]["name"]: each.manifest.spec["content"] for each in run.every("source")}
    sources = Table(
        ("source", "domain", "licence", "rows", "tokens", "loss tokens", "content"),
        [[*row, _content(content.get(row[0], ""))] for row in own.rows()], f"Where the {what} came from",
    )  # fmt: skip
    missing = int((rows["license"] == UNKNOWN).sum())
    warned = [Words(f"{count(missing)} rows name no licence.", "warn")] if missing else []
    return Panel([figure, *warned, sources], [each for each in (samples, composition, run.last("export")) if each])


def _content(content: str) -> str:
    """Return enough of what identifies a source to compare it by eye."""
    name, at, revision = content.rpartition("@")
    return f"{name}{at}{revision[:12]}"


CHAPTER = Chapter(
    "licences", "Licences and sources", "Which licences the rows stand under and which source each part came from.", panel
)
