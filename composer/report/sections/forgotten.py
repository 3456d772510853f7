"""Why did it forget: for every drop, what was trained on meanwhile and what of it lies nearest."""

from __future__ import annotations

from collections.abc import Sequence

from composer.report.draw import Strip, strips
from composer.report.evidence import ERRORS, Drop, Near, Trained, drops, near, trained
from composer.report.numbers import clipped, count, listed, share
from composer.report.record import Record
from composer.report.section import Case, Chapter, Figure, Heading, Panel, Part, Table, Words
from composer.report.sections.instructions import by_phase

TOLD = 4  # drops that are told at length; all are in the table
EXAMPLES = 2
WIDE = 300


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:  # noqa: ARG001
    """Return the drops of one run with the most likely causes."""
    if not run.evaluations:
        return None
    found = drops(run)
    if not found:
        return Panel(
            [Words("No domain got worse from one stage to the next by more than twice the standard error of the difference.")]
        )
    parts: list[Part] = [_figure(found)]
    for drop in found[:TOLD]:
        parts += _told(run, drop)
    return Panel(
        parts,
        [each for kind in ("retention", "composition", "similarity", "coverage", "interference") if (each := run.last(kind))],
    )


def _figure(found: Sequence[Drop]) -> Figure:
    rows = [[d.domain, d.name, d.measure, d.before, d.after, d.stderr, d.n] for d in found]
    columns = ("domain", "after", "measure", "before", "after", "standard error of the difference", "rows")
    first = [d for d in found if d.measure == found[0].measure][:16]
    top = 1.0 if found[0].measure == "exact match" else None
    drawn = [
        Strip(f"{d.domain}, after {d.name}", f"{d.before:.2f} → {d.after:.2f}", bar=d.worse, css="c3",
              interval=(max(d.worse - 1.96 * d.stderr, 0.0), d.worse + 1.96 * d.stderr))
        for d in first
    ]  # fmt: skip
    unit = "exact match that was lost" if found[0].measure == "exact match" else "rise of the loss, nats per token"
    most = first[0]
    says = f"{len(found)} drops. The largest: {most.domain} after {most.name}, from {most.before:.2f} to {most.after:.2f}."
    more = f"Drawn are {len(first)} of {len(found)} drops of exact match or rises of the loss; all are in the table."
    return Figure(
        f"Every drop, with the interval of 95 %: {unit}",
        strips(drawn, says=says, high=top),
        Table(columns, rows),
        note=more if len(first) < len(found) else "",
    )


def _told(run: Record, drop: Drop) -> list[Part]:
    unit = "Exact match" if drop.measure == "exact match" else "The loss"
    error = f"standard error of the difference {drop.stderr:.3f}"
    change = f"{unit} went from {drop.before:.3f} to {drop.after:.3f} on the same {drop.n} rows ({error})."
    parts: list[Part] = [Heading(f"{drop.domain}, after {drop.name}"), Words(change)]
    meanwhile, found = trained(run, drop), near(run, drop)
    if meanwhile:
        parts.append(Words(_meanwhile(drop, meanwhile)))
    parts += [Words(words) for words in _measured(run, drop)]
    if found and meanwhile:
        parts.append(Words(_likely(drop, found, meanwhile)))
        parts.append(Words(_compared(found)))
        parts += [_case(drop, found, i) for i in range(min(EXAMPLES, len(found.pairs)))]
    return parts


def _meanwhile(drop: Drop, told: Trained) -> str:
    sources = listed([f"{source} ({count(n)})" for source, n, _ in told.new], most=5)
    new = (
        f"Trained on in that stage: {count(told.n_new)} new rows of other domains, from {sources}"
        if told.n_new
        else "No rows of other domains were new in that stage"
    )
    if not told.own_rows:
        return f"{new}. Nothing of {drop.domain} came along."
    of = f", {share(told.own_rows / told.own_supply)} of the {count(told.own_supply)} there are" if told.own_supply else ""
    part = share(told.own_share)
    return f"{new}. {count(told.own_rows)} rows of {drop.domain} came along{of}, {part} of the stage's loss tokens."


def _measured(run: Record, drop: Drop) -> list[str]:
    """Return what distance, coverage and interference say of the domain and what was new."""
    out = []
    current = [d for d in run.retention["current"][drop.stage] if d != drop.domain]
    matrix = run.json("similarity", "similarity.json")
    if matrix and drop.domain in matrix["domains"]:
        at, names = matrix["domains"].index(drop.domain), matrix["domains"]
        order = sorted((name for name in names if name != drop.domain), key=lambda name: matrix["value"][at][names.index(name)])
        order = order if matrix["kind"] == "distance" else order[::-1]
        new = [
            f"{d} is number {order.index(d) + 1} of {len(order)} ({matrix['value'][at][names.index(d)]:.3f})"
            for d in current
            if d in order
        ]
        if new:
            out.append(f"By nearness to {drop.domain} ({matrix['measure']}, the first is the nearest): {listed(new, most=4)}.")
    for kind, words in (
        ("coverage", "of its instructions had nothing new near them"),
        ("interference", "is how far new rows near its own answered otherwise"),
    ):
        phases = by_phase(run, kind)
        if len(phases) >= drop.stage and drop.domain in phases[drop.stage - 1]:
            of = phases[drop.stage - 1]
            rank = 1 + sum(value > of[drop.domain] for value in of.values())
            placed = f", number {rank} of the {len(of)} earlier domains in that stage" if len(set(of.values())) > 1 else ""
            value = share(of[drop.domain]) if kind == "coverage" else f"{of[drop.domain]:.3f}"
            out.append(f"{value} {words}{placed}.")
    return out


def _likely(drop: Drop, found: Near, told: Trained) -> str:
    source, n = found.by_source[0]
    given = next((part for name, _, part in told.new if name == source), 0.0)
    lost = "rows that were lost" if drop.measure == "exact match" else "rows whose loss rose most"
    if len(told.new) == 1:
        otherwise = f"of {found.n} {lost}, {found.otherwise} have a nearest new row that answers otherwise"
        return f"All new rows came from {source}, so it is the most likely cause; {otherwise}."
    near_it = f"{n} of {found.n} {lost} have their nearest new row in it"
    text = f"Most likely responsible is the source {source}: {near_it}, while it gave {share(given)} of the new rows"
    if n / found.n < 1.2 * given:
        text = (
            f"No source stands out; of {source} {near_it}, about what its {share(given)} of the new rows would give by chance"
        )
    return f"{text}. {found.otherwise} of these nearest rows answer otherwise."


def _compared(found: Near) -> str:
    if found.kept is None:
        mean = f"The nearest new row has a cosine of {found.lost:.2f} on average (TF-IDF of the prompts)"
        return f"{mean}; no row was kept to compare with."
    if found.apart > ERRORS:
        verdict = "so being near to what was new goes with being lost"
    elif found.apart < -ERRORS:
        verdict = "so being near to what was new rather goes with being kept"
    else:
        verdict = "so nearness does not tell lost rows from kept ones"
    means = f"{found.lost:.2f} to their nearest new row, kept ones {found.kept:.2f} (TF-IDF of the prompts)"
    return f"Lost rows have a cosine of {means}, {verdict}. It is an association and no proof."


def _case(drop: Drop, found: Near, i: int) -> Case:
    pair = found.pairs[i]
    return Case(
        f"Nearest pair {i + 1}: cosine {pair.cosine:.2f}",
        ((f"{drop.domain}, held out and lost", _shown(pair.lost)), (f"{pair.source}, new in {drop.name}", _shown(pair.new))),
    )


def _shown(said: tuple[str, str]) -> str:
    return f"{clipped(said[0], WIDE)}\n→ {clipped(said[1], WIDE)}"


CHAPTER = Chapter(
    "forgotten", "Why did it forget?",
    "For every drop larger than chance: what was trained on meanwhile, and which new rows lie nearest to those that were lost.",
    panel,
)  # fmt: skip
