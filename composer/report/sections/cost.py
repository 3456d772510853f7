"""What every stage took, and where its files lie."""

from __future__ import annotations

from collections.abc import Sequence

from composer.report.draw import Strip, strips
from composer.report.numbers import count, duration, listed, share, size
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Panel, Table, Words

DRAWN = 14  # the steps that took longest; all are in the table


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:  # noqa: ARG001
    """Return the steps of one run with their times and sizes."""
    timed = [(each.manifest.made["seconds"], run.label(each), each) for each in run.members]
    total = sum(seconds for seconds, _, _ in timed)
    longest = sorted(timed, key=lambda step: -step[0])[:DRAWN]
    drawn = [Strip(label, duration(seconds), bar=seconds, css="c5") for seconds, label, _ in longest]
    rest = len(timed) - len(longest)
    title = (
        f"Time of the {len(drawn)} steps that took longest; {rest} more took {duration(total - sum(s for s, *_ in longest))}"
    )
    says = f"All {len(timed)} steps took {duration(total)}; the longest was {longest[0][1]}, {duration(longest[0][0])}."
    rows = [
        [label, each, seconds, size(sum(f.n_bytes for f in each.manifest.files.values())), len(each.manifest.files)]
        for seconds, label, each in timed
    ]  # fmt: skip
    table = Table(("step", "artifact", "seconds", "size", "files"), rows)
    figure = Figure(title if rest else "Time of every step", strips(drawn, says=says, axis="seconds"), table)
    return Panel([figure, Words(says), *_spent(run)], ())


def _spent(run: Record) -> list[Words]:
    known = run.json("knowledge", "knowledge.json")
    knowledge, machines = run.last("knowledge"), list(dict.fromkeys(each.manifest.made["machine"] for each in run.members))
    out = []
    if known and knowledge and known.get("n_tokens"):
        texts, seconds = known["n"] + known["rejected"], max(knowledge.manifest.made["seconds"], 1e-3)
        out.append(
            Words(
                f"The probe wrote {count(known['n_tokens'])} tokens in {count(texts)} texts, "
                f"{texts / seconds:,.1f} texts a second with the judging."
            )
        )
    trained = sum(each.manifest.stats.get("n_tokens", 0) for each in run.models)
    seconds = sum(each.manifest.made["seconds"] for each in run.models)
    if trained and seconds:
        part = share(seconds / max(sum(each.manifest.made["seconds"] for each in run.members), 1e-9))
        out.append(
            Words(
                f"Training read {count(trained)} tokens in {duration(seconds)}, {part} of the time: "
                f"{trained / seconds:,.0f} tokens a second."
            )
        )
    return [
        *out,
        Words(f"Made on {listed(machines)}. What was there already from another run counts with the time it took then."),
    ]


CHAPTER = Chapter(
    "cost", "Time, and where everything lies", "What every stage took and left; each artifact is a link to its folder.", panel
)
