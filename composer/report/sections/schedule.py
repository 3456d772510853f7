"""What is trained on, when: the phases as planned, and the rows in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import polars as pl

from composer.report.draw import Band, areas, colour, heat
from composer.report.numbers import count, share, shortened
from composer.report.record import Record
from composer.report.section import Chapter, Figure, Key, Panel, Part, Table, Words

BINS = 48  # stretches of the composition
BANDS = 7  # domains with a colour of their own; the others share one
ROOM = 60  # characters below a picture
OTHERS = "other domains"
TWO = ("new in its phase", "replay of an earlier domain")


def panel(run: Record, runs: Sequence[Record]) -> Panel | None:
    """Return the schedule of one run."""
    artifact = run.last("schedule")
    if artifact is None:
        return None
    bands = _bands(run)
    parts: list[Part] = [_planned(run, bands)]
    if run.composition is not None and len(run.composition):
        parts.append(_realised(run, run.composition, bands))
    if len(run.phases) > 2:
        parts.append(_matrix(run, runs))
    replayed = _replay(run)
    if replayed:
        part = share(sum(replayed.values()) / sum(p["amount"] for p in run.phases))
        words = f"Replay of earlier domains is {part} of all that is trained on"
        most = max(replayed, key=lambda name: replayed[name])
        parts.append(Words(f"{words}; {most} comes back most, with {count(round(replayed[most]))} {run.unit}."))
    if off := artifact.manifest.stats.get("share_error"):
        parts.append(Words(f"The distances are estimates: shares of the replay may be off by {off:.4f} in total variation."))
    return Panel(parts, [each for each in (artifact, run.last("composition")) if each])


def _shares(phase: Mapping[str, Any]) -> dict[str, float]:
    return dict(zip(phase["mixture"]["domains"], phase["mixture"]["weights"], strict=True))


def _replay(run: Record) -> dict[str, float]:
    out: dict[str, float] = {}
    for phase in run.phases:
        for domain, weight in _shares(phase).items():
            if domain not in phase["current"] and weight > 0:
                out[domain] = out.get(domain, 0.0) + weight * phase["amount"]
    return out


@dataclass(frozen=True)
class _Bands:
    """What has a colour of its own: domains, or, of many domains in phases, what is new and what comes back."""

    names: tuple[str, ...]
    others: int = 0

    def of(self, domain: str, *, replay: bool) -> str:
        """Return the band that a domain belongs to."""
        if self.names == TWO:
            return TWO[replay]
        return domain if domain in self.names else OTHERS

    def css(self, name: str) -> str:
        """Return the colour's class."""
        return "other" if name == OTHERS else colour(self.names.index(name))

    @property
    def every(self) -> tuple[str, ...]:
        """All bands, from the bottom up."""
        return (*self.names, *((OTHERS,) if self.others else ()))

    def keys(self, *, hatched: bool) -> tuple[Key, ...]:
        """Return the legend."""
        keys = [Key(self.css(name), name) for name in self.names]
        keys += [Key("other", f"{OTHERS} ({self.others})")] if self.others else []
        return (*keys, *([Key("ink", "replay of an earlier domain", "hatch")] if hatched and self.names != TWO else []))


def _bands(run: Record) -> _Bands:
    amount: dict[str, float] = {}
    for phase in run.phases:
        for domain, weight in _shares(phase).items():
            amount[domain] = amount.get(domain, 0.0) + weight * phase["amount"]
    if len(amount) <= BANDS + 1:
        return _Bands(tuple(amount))
    if _replay(run):
        return _Bands(TWO)
    most = sorted(amount, key=lambda name: -amount[name])[:BANDS]
    return _Bands(tuple(name for name in amount if name in most), len(amount) - BANDS)


def _stacked(bands: _Bands, parts: Sequence[Mapping[tuple[str, bool], float]]) -> list[Band]:
    """Return the bands of stretches, each of which maps (domain, whether it is replay) to an amount."""
    out = []
    for name in bands.every:
        shares, hatched = [], []
        for part in parts:
            own = {
                replay: sum(v for (d, r), v in part.items() if r == replay and bands.of(d, replay=r) == name)
                for replay in (False, True)
            }
            shares.append((own[False] + own[True]) / max(sum(part.values()), 1e-12))
            hatched.append(own[True] > own[False])
        out.append(Band(bands.css(name), shares, hatched))
    return out


def _planned(run: Record, bands: _Bands) -> Figure:
    total = sum(phase["amount"] for phase in run.phases)
    edges = [0.0, *(end / total for end in accumulate(phase["amount"] for phase in run.phases))]
    parts = [{(d, d not in phase["current"]): weight for d, weight in _shares(phase).items()} for phase in run.phases]
    drawn = _stacked(bands, parts)
    rows = [
        [phase["name"], domain, phase["amount"], weight, round(weight * phase["amount"]), replay]
        for phase, part in zip(run.phases, parts, strict=True) for (domain, replay), weight in part.items()
    ]  # fmt: skip
    table = Table(("phase", "domain", "amount of the phase", "share", run.unit, "replay"), rows)
    named = ", ".join(shortened(phase["name"], 40) for phase in run.phases[:8])
    says = f"{len(run.phases)} phases over {count(total)} {run.unit}: {named}."
    below = [((a + b) / 2, name) for name, (a, b) in zip(_short_names(run), pairwise(edges), strict=True)]
    below = below[:: -(-len(below) // 10)]
    plot = areas(drawn, edges, says=says, key=f"plan-{run.artifact.key}", below=below, axis=f"{run.unit}, from first to last")
    keys = bands.keys(hatched=any(any(band.hatched) for band in drawn))
    return Figure(f"Planned: the share of {_what(bands)} in every phase", plot, table, keys=keys)


def _short_names(run: Record) -> list[str]:
    """Return the phases' names where there is room for them, else their numbers."""
    names = [phase["name"] for phase in run.phases]
    return names if sum(map(len, names)) <= ROOM else [f"phase {i + 1}" for i in range(len(names))]


def _what(bands: _Bands) -> str:
    return "what is new and what comes back" if bands.names == TWO else "each domain"


def _realised(run: Record, rows: pl.DataFrame, bands: _Bands) -> Figure:
    n = min(BINS, len(rows))
    size = {"tokens": "n_tokens", "loss tokens": "n_loss_tokens"}.get(run.unit)
    weight = pl.col(size).cast(pl.Float64) if size else pl.lit(1.0)
    cut = rows.with_columns(at=pl.int_range(pl.len()) * n // pl.len(), weight=weight)
    parts: list[dict[tuple[str, bool], float]] = [{} for _ in range(n)]
    sums = cut.group_by("at", "domain", "is_replay", maintain_order=True).agg(pl.col("weight").sum())
    for at, domain, replay, amount in sums.iter_rows():
        parts[at][domain, replay] = amount
    drawn = _stacked(bands, parts)
    table = Table(
        ("phase", "domain", "replay", "rows", "tokens", "loss tokens"),
        rows.group_by("phase", "domain", "is_replay", maintain_order=True)
        .agg(pl.len().cast(pl.Int64), pl.col("n_tokens").cast(pl.Int64).sum(), pl.col("n_loss_tokens").cast(pl.Int64).sum())
        .with_columns(pl.col("phase").cast(pl.Int64) + 1).rows(),
    )  # fmt: skip
    below = [(at, f"{at * len(rows):,.0f}") for at in (0, 0.25, 0.5, 0.75, 1)]
    says = f"The {count(len(rows))} rows in the order in which they are trained on, in {n} stretches."
    edges = [at / n for at in range(n + 1)]
    plot = areas(drawn, edges, says=says, key=f"rows-{run.artifact.key}", below=below, axis="rows, in their order")
    title = f"Realised: the share of {_what(bands)} in {run.unit} along the rows"
    return Figure(title, plot, table, keys=bands.keys(hatched=any(any(band.hatched) for band in drawn)))


def _most(runs: Sequence[Record]) -> float:
    amounts = [weight * phase["amount"] for run in runs for phase in run.phases for weight in phase["mixture"]["weights"]]
    return float(max(amounts))


def _matrix(run: Record, runs: Sequence[Record]) -> Figure:
    shares = [_shares(phase) for phase in run.phases]
    domains = list(dict.fromkeys(name for s in shares for name in s))
    cells = [
        [s[name] * p["amount"] if s.get(name) else None for name in domains] for s, p in zip(shares, run.phases, strict=True)
    ]
    new = frozenset((i, domains.index(name)) for i, p in enumerate(run.phases) for name in p["current"] if name in domains)
    names = [phase["name"] for phase in run.phases]
    says = f"{len(names)} phases by {len(domains)} domains; what is new in a phase has a border."
    table = Table(
        ("phase", *domains),
        [[name, *(None if v is None else round(v) for v in row)] for name, row in zip(names, cells, strict=True)],
    )
    title = f"How much of each domain every phase has, in {run.unit}; what is new in it has a border"
    return Figure(title, heat(names, domains, cells, says=says, outlined=new, digits=0, reach=(0.0, _most(runs))), table)


CHAPTER = Chapter(
    "schedule", "What is trained on, when",
    "Phases in their order, each with what is new and what comes back of earlier domains.", panel,
)  # fmt: skip
