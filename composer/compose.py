"""A schedule and samples into the rows to train on, in order, with an account of what was planned and what came of it.

For every phase and domain the planned amount is cut to what the domain can give, rows are taken in the selector's order until
their sum is nearest to it, and the domains of a phase are interleaved so that every stretch of it has the phase's mixture.
New and replayed domains are two pots: what a new domain lacks is made up by new domains, so a shortage never inflates replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.apportion import apportion, interleave
from composer.errors import InputError
from composer.spec import rng, seed_of
from composer.tables import COMPOSITION, check
from composer.types import Phase, Schedule, Unit

_COUNTS = {"rows": pl.len(), "tokens": pl.col("n_tokens").sum(), "loss_tokens": pl.col("n_loss_tokens").sum()}
_COUNT_OF: Mapping[Unit, str] = {"samples": "rows", "tokens": "tokens", "loss_tokens": "loss_tokens"}
_LIGHT = ("sample_id", "source", "domain", "n_tokens", "n_loss_tokens")


class Order(Protocol):
    """What is asked of a selector (see ``composer.select``)."""

    def order(self, rows: pl.DataFrame, *, scores: pl.DataFrame | None, n: int, seed: int) -> NDArray[np.int64]:
        """Return a permutation of the rows, of which the first n are the choice."""


@dataclass(frozen=True)
class Composition:
    """The rows to train on (COMPOSITION, by position) and the account of them (plain JSON, see :func:`compose`)."""

    frame: pl.DataFrame
    report: dict[str, Any]


@dataclass(frozen=True)
class _Pool:
    """The training rows of one domain: their place among all of them, their ids, and their sizes in the schedule's unit."""

    rows: pl.DataFrame
    size: NDArray[np.int64]

    @property
    def supply(self) -> int:
        return int(self.size.sum())


@dataclass(frozen=True)
class _Share:
    """What one domain is to give to one phase, in the schedule's unit: as planned, and as far as it can."""

    phase: int
    domain: str
    is_replay: bool
    planned: int
    target: int
    available: int
    moved: int  # of what it lacks, how much other domains give in its place


def compose(
    schedule: Schedule,
    samples: pl.DataFrame,
    *,
    domains: tuple[str, ...],
    select: Order,
    replay_select: Order,
    scores: pl.DataFrame | None,
    max_repeats: int,
    seed: int,
) -> Composition:
    """Return the rows to train on, in order, and the account of them.

    A domain's rows are taken until their sum is nearest to its target, so it misses the target by half a row at most. New
    domains may give each row ``max_repeats`` times, one whole pass after the other; replayed ones give each row once per phase.
    Within a phase the rows of a domain are shuffled, pass by pass, and the domains interleaved.

    Parameters
    ----------
    schedule
        How much of which domain in which phase.
    samples
        SAMPLE, of which the ids, source, domain, role and counts are read: messages may be left out. Targets and replay are
        trained on, validation and reference rows are left alone. Rows that were taken out of a larger table bring their place
        in it as ``row``; without that column the frame is the table.
    domains
        The recipe's domains; their order is that of the report.
    select, replay_select
        In which order rows are taken, of new and of replayed domains.
    scores
        SCORE, for selectors that read one.
    max_repeats
        How often a row of a new domain may come within one phase.
    seed
        Decides what is left to chance; each phase, domain and pass draws on its own.

    Returns
    -------
    The report has ``unit``; ``phases``, each with ``name``, ``amount`` and ``domains``, a list of accounts; ``domains``, the
    accounts of the whole run; ``total``; and ``shortages``, one ``{phase, domain, planned, available, moved}`` wherever a
    domain could not give what was planned. An account has ``planned``, ``target`` (planned after the cut), ``realised`` and
    ``off_by = realised - target``, in the unit, ``largest_row``, and the counts and shares ``rows``, ``tokens``,
    ``loss_tokens`` and ``rows_share``, ``tokens_share``, ``loss_tokens_share``.

    Raises
    ------
    InputError
        For a schedule of domains that the recipe does not have, and for one that comes to no row at all.
    """
    if unknown := sorted({d for phase in schedule.phases for d in phase.mixture.domains} - set(domains)):
        known = ", ".join(domains)
        raise InputError("a scheduled domain is not in the recipe", where="domains", expected=f"among {known}", got=unknown[0])
    training = _training(samples)
    pools = _pools(training, schedule.unit)
    shares, parts = [], []
    for i, phase in enumerate(schedule.phases):
        of_phase = _shares(i, phase, domains=domains, pools=pools, max_repeats=max_repeats)
        drawn = [
            _draw(pools[share.domain], share, by=replay_select if share.is_replay else select, scores=scores, seed=seed)
            for share in of_phase
            if share.target
        ]
        shares += of_phase
        if drawn:
            parts.append(_interleaved(drawn, rng(seed, "compose", "interleave", i)))
    if not any(part.height for part in parts):
        hint = "raise the budget, or check that the sources gave rows"
        raise InputError("the composition is empty", where="budget", got=f"{schedule.total} {schedule.unit}", hint=hint)
    frame = _frame(pl.concat(parts), training)
    return Composition(frame, _report(schedule, shares, frame, pools, domains))


def _training(samples: pl.DataFrame) -> pl.DataFrame:
    placed = samples if "row" in samples.columns else samples.with_row_index("row")
    rows = placed.filter(pl.col("role").is_in(["target", "replay"]))
    return rows.select(pl.col("row").cast(pl.UInt32), *_LIGHT, "instruction_id")


def _pools(training: pl.DataFrame, unit: Unit) -> dict[str, _Pool]:
    size = pl.lit(1) if unit == "samples" else pl.col(f"n_{unit}")
    rows = training.with_row_index("at").select(
        "at", "domain", "sample_id", "instruction_id", size.cast(pl.Int64).alias("size")
    )
    by_domain = rows.sort("sample_id").partition_by("domain", as_dict=True, include_key=False)
    return {str(domain): _Pool(part, part["size"].to_numpy()) for (domain,), part in by_domain.items()}


def _shares(
    number: int, phase: Phase, *, domains: tuple[str, ...], pools: Mapping[str, _Pool], max_repeats: int
) -> list[_Share]:
    """Return what each domain of a phase gives, cut to what it has; new and replayed domains are apportioned apart."""
    names = sorted(phase.mixture.domains, key=domains.index)
    new = [name for name in names if name in phase.current]
    old = [name for name in names if name not in phase.current]
    weights = {name: phase.mixture.share(name) for name in names}
    amounts = apportion([sum(weights[name] for name in side) for side in (new, old)], phase.amount)
    out = []
    for side, amount, passes in ((new, int(amounts[0]), max_repeats), (old, int(amounts[1]), 1)):
        if not amount:
            continue
        w = [weights[name] for name in side]
        supply = np.array([pools[name].supply * passes if name in pools else 0 for name in side])
        planned, target = apportion(w, amount), apportion(w, amount, capacity=supply)
        lacks = np.maximum(planned - supply, 0)
        given = int(np.maximum(target - planned, 0).sum())
        moved = apportion(lacks, given, capacity=lacks) if lacks.any() else lacks
        columns = zip(side, planned.tolist(), target.tolist(), supply.tolist(), moved.tolist(), strict=True)
        out += [_Share(number, name, side is old, *numbers) for name, *numbers in columns]
    return out


def _draw(pool: _Pool, share: _Share, *, by: Order, scores: pl.DataFrame | None, seed: int) -> pl.DataFrame:
    """Return the rows that come nearest to the share's target, pass by pass, each pass in random order."""
    chosen, left, repeat = [], share.target, 0
    while left > 0:
        n = min(max(round(left * len(pool.size) / pool.supply), 1), len(pool.size))
        place = ("compose", share.phase, share.domain, repeat)
        order = by.order(pool.rows, scores=scores, n=n, seed=seed_of(seed, *place))
        reached = np.cumsum(pool.size[order])
        taken = _nearest(reached, left)
        shuffled = rng(seed, "shuffle", *place).permutation(taken)
        chosen.append(pool.rows[order[:taken]].select("at").with_columns(
            rank=pl.int_range(taken, dtype=pl.UInt32), repeat=pl.lit(repeat, dtype=pl.UInt32),
            phase=pl.lit(share.phase, dtype=pl.UInt32), is_replay=pl.lit(share.is_replay),
        )[shuffled])  # fmt: skip
        left = left - int(reached[-1]) if taken == len(order) else 0
        repeat += 1
    return pl.concat(chosen)


def _interleaved(parts: list[pl.DataFrame], generator: np.random.Generator) -> pl.DataFrame:
    turns = interleave([part.height for part in parts], generator)
    row_at = np.empty(len(turns), dtype=np.int64)
    row_at[np.argsort(turns, kind="stable")] = np.arange(len(turns))  # the k-th turn of a part is its k-th row
    return pl.concat(parts)[row_at]


def _nearest(reached: NDArray[np.int64], target: int) -> int:
    """Return how many rows bring the sum nearest to the target, fewer where two are equally near."""
    at = int(np.searchsorted(reached, target))
    if at == len(reached):
        return at
    below = int(reached[at - 1]) if at else 0
    return at + 1 if reached[at] - target < target - below else at


def _frame(drawn: pl.DataFrame, training: pl.DataFrame) -> pl.DataFrame:
    rows = training.select("row", *_LIGHT)[drawn["at"]]
    frame = pl.concat([drawn.drop("at"), rows], how="horizontal").with_columns(position=pl.int_range(pl.len(), dtype=pl.UInt64))
    return check(frame, COMPOSITION, where="composition")


def _report(
    schedule: Schedule, shares: list[_Share], frame: pl.DataFrame, pools: Mapping[str, _Pool], domains: tuple[str, ...]
) -> dict[str, Any]:
    counted = frame.group_by("phase", "domain").agg(**_COUNTS)
    counts = {(row.pop("phase"), row.pop("domain")): row for row in counted.to_dicts()}
    lines = []
    for share in shares:
        count = counts.get((share.phase, share.domain), dict.fromkeys(_COUNTS, 0))
        realised = count[_COUNT_OF[schedule.unit]]
        largest = int(pools[share.domain].size.max()) if share.domain in pools else 0
        lines.append({
            "phase": share.phase, "domain": share.domain, "is_replay": share.is_replay, "planned": share.planned,
            "target": share.target, "realised": realised, "off_by": realised - share.target, "largest_row": largest, **count,
        })  # fmt: skip
    names = [phase.name for phase in schedule.phases]
    whole = [_sum([line for line in lines if line["domain"] == name], domain=name) for name in domains]
    return {
        "unit": schedule.unit,
        "phases": [
            {"name": name, "amount": schedule.phases[i].amount, "domains": _with_shares([x for x in lines if x["phase"] == i])}
            for i, name in enumerate(names)
        ],
        "domains": _with_shares(whole),
        "total": {key: value for key, value in _sum(lines, domain="").items() if key not in ("domain", "largest_row")},
        "shortages": [
            {"phase": names[s.phase], "domain": s.domain, "planned": s.planned, "available": s.available, "moved": s.moved}
            for s in shares
            if s.planned > s.available
        ],
    }


def _sum(lines: list[dict[str, Any]], *, domain: str) -> dict[str, Any]:
    summed = {key: sum(line[key] for line in lines) for key in ("planned", "target", "realised", "off_by", *_COUNTS)}
    return {"domain": domain, "largest_row": max((line["largest_row"] for line in lines), default=0), **summed}


def _with_shares(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines without their phase, with every count's share of the counts of all lines."""
    out = [{key: value for key, value in line.items() if key != "phase"} for line in lines]
    for key in ("planned", "realised", *_COUNTS):
        total = sum(line[key] for line in lines)
        for line in out:
            line[f"{key}_share"] = line[key] / total if total else 0.0
    return out
