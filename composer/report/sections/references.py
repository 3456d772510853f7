"""Reference losses: what the loss of every domain might come down to, beside what it came down to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from composer.report.draw import Mark, Strip, strips
from composer.report.numbers import signed
from composer.report.record import Record
from composer.report.section import Figure, Key, Table


class Row(NamedTuple):
    """A domain's losses, in nats per token; what of a measurement alone is None where the recipe gave the reference."""

    domain: str
    before: float | None
    reference: float
    last: float
    left: float
    epochs: int | None
    rows: int | None


def references(run: Record, looks: pl.DataFrame, beside: Sequence[tuple[Record, pl.DataFrame]]) -> Figure | None:
    """Return the references that moved the weights of a run, or None for a law that has none.

    ``looks`` are WEIGHTS in the order of training, of which a domain's last one speaks; ``beside`` are all runs of the page
    that have some, for common scales.
    """
    found = _rows(run, looks)
    if not found:
        return None
    drawn = [Strip(row.domain, signed(row.left), marks=_marks(row)) for row in found]
    values = [v for each in beside for row in _rows(*each) for v in (row.before, row.reference, row.last) if v is not None]
    gap = 0.03 * max(max(values) - min(values), 1e-9)
    worst, measured = max(found, key=lambda row: row.left), any(row.before is not None for row in found)
    says = f"{worst.domain} stands highest against its reference, {signed(worst.left)} nats per token."
    keys: tuple[Key, ...] = (Key("ink", "reference", "tick"), Key("c0", "last look in training", "dot"))
    keys += (Key("c1", "before training", "ring"),) if measured else ()
    columns = ("domain", "before training", "reference", "last look", "last look less reference", "epochs alone", "rows alone")
    made = "from short runs on each domain alone" if measured else "given by the recipe"
    note = f"References are {made}; on the right stands the last look less the reference. {says}"
    plot = strips(drawn, says=says, low=min(values) - gap, high=max(values) + gap)
    return Figure("Reference losses of every domain, nats per token", plot, Table(columns, found), note=note, keys=keys)


def _rows(run: Record, looks: pl.DataFrame) -> list[Row]:
    last = looks.filter(pl.col("reference_nats").is_not_null()).group_by("domain", maintain_order=True).last()
    at = {domain: (reference, now) for domain, reference, now in last.select("domain", "reference_nats", "loss_nats").rows()}
    made = run.json("reference", "reference.json") or {}
    out = []
    for domain in run.in_order(list(at)):
        (reference, now), own = at[domain], made.get(domain)
        alone = (own["looks"][0], len(own["looks"]) - 1, own["rows"]) if own else (None, None, None)
        out.append(Row(domain, alone[0], reference, now, now - reference, *alone[1:]))
    return out


def _marks(row: Row) -> tuple[Mark, ...]:
    reference = Mark(row.reference, "tick", "ink", f"{row.domain}, reference: {row.reference:.3f}")
    last = Mark(row.last, "dot", "c0", f"{row.domain}, last look: {row.last:.3f}")
    begun = () if row.before is None else (Mark(row.before, "ring", "c1", f"{row.domain}, before: {row.before:.3f}"),)
    return (*begun, reference, last)
