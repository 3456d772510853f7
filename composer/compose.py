"""A schedule and samples into the rows to train on, in order, with an account of what was planned and what came of it.

For every phase and domain the planned amount is cut to what the domain can give, rows are taken in the selector's order until
their sum is nearest to it, and the domains of a phase are interleaved so that every stretch of it has the phase's mixture.
New and replayed domains are two pots: what a new domain lacks is made up by new domains, so a shortage never inflates replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.account import Share, account
from composer.apportion import apportion, interleave
from composer.candidates import Candidates
from composer.errors import InputError
from composer.spec import rng, seed_of
from composer.tables import COMPOSITION, INSTRUCTION_COUNT, check
from composer.types import Phase, Schedule, SelectContext, Unit

_LIGHT = ("sample_id", "source", "domain", "n_tokens", "n_loss_tokens")


class Order(Protocol):
    """What is asked of a selector (see ``composer.select``)."""

    def order(self, rows: Candidates, *, context: SelectContext, n: int, seed: int) -> NDArray[np.int64]:
        """Return a permutation of the rows, of which the first n are the choice."""


@dataclass(frozen=True)
class Composition:
    """The rows to train on (COMPOSITION, by position) and the account of them (plain JSON, see :func:`compose`).

    ``reserve`` (COMPOSITION) are the rows that each domain could give beyond these, in the order in which it would.
    """

    frame: pl.DataFrame
    report: dict[str, Any]
    reserve: pl.DataFrame | None = None


@dataclass(frozen=True)
class _Pool:
    """The training rows of one domain: as selectors get them, their place among all, and their sizes in the schedule's unit."""

    rows: Candidates
    at: NDArray[np.int64]
    size: NDArray[np.int64]

    @property
    def supply(self) -> int:
        return int(self.size.sum())


def compose(
    schedule: Schedule,
    samples: pl.DataFrame,
    *,
    domains: tuple[str, ...],
    select: Order,
    replay_select: Order,
    max_repeats: int,
    seed: int,
    scores: pl.DataFrame | None = None,
    instruction_scores: pl.DataFrame | None = None,
    embeddings: pl.DataFrame | None = None,
    sample_embeddings: pl.DataFrame | None = None,
    clusters: pl.DataFrame | None = None,
    answers: pl.DataFrame | None = None,
    only: int | None = None,
    with_reserve: bool = False,
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
    max_repeats
        How often a row of a new domain may come within one phase.
    seed
        Decides what is left to chance; each phase, domain and pass draws on its own.
    scores, instruction_scores, embeddings, sample_embeddings, clusters, answers
        SCORE, INSTRUCTION_SCORE, EMBEDDING, SAMPLE_EMBEDDING, CLUSTERS and ANSWER, for selectors that read them. Of the scores
        of instructions a phase has those that name it, and those that name none as far as none names it.
    only
        The number of the one phase whose rows are wanted; they are the same as among those of all.
    with_reserve
        Whether the rows are wanted, too, that are left over: phase by phase and domain by domain, what its passes still have,
        numbered on from the last row. A training whose weights move takes from them. The rows to train on stay the same.

    Returns
    -------
    The report is that of :func:`composer.account.account`.

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
    given = SelectContext(
        scores=scores, embeddings=embeddings, sample_embeddings=sample_embeddings, clusters=clusters, answers=answers
    )
    shares, parts, left = [], [], []
    for i, phase in enumerate(schedule.phases):
        if only not in (None, i):
            continue
        of_phase = _shares(i, phase, domains=domains, pools=pools, max_repeats=max_repeats)
        current = _current([pools[domain] for domain in phase.current if domain in pools])
        context = replace(given, instruction_scores=_of_phase(instruction_scores, i), current=current)
        shares += of_phase
        drawn: list[pl.DataFrame] = []
        for share in (each for each in of_phase if each.domain in pools and (each.target or with_reserve)):
            by, passes = (replay_select, 1) if share.is_replay else (select, max_repeats)
            draw = _draw(pools[share.domain], share, by=by, passes=passes, context=context, seed=seed, to_the_end=with_reserve)
            drawn += [pl.concat(draw.taken)] if share.target else []
            left += draw.left
        if drawn:
            parts.append(_interleaved(drawn, rng(seed, "compose", "interleave", i)))
    if not any(part.height for part in parts):
        hint = "raise the budget, or check that the sources gave rows"
        raise InputError("the composition is empty", where="budget", got=f"{schedule.total} {schedule.unit}", hint=hint)
    frame = _frame(pl.concat(parts), training)
    largest = {domain: int(pool.size.max()) for domain, pool in pools.items()}
    reserve = _frame(pl.concat(left), training, begin=frame.height) if with_reserve else None
    return Composition(frame, account(schedule, shares, frame, largest=largest, domains=domains), reserve)


def _training(samples: pl.DataFrame) -> pl.DataFrame:
    placed = samples if "row" in samples.columns else samples.with_row_index("row")
    rows = placed.filter(pl.col("role").is_in(["target", "replay"]))
    return rows.select(pl.col("row").cast(pl.UInt32), *_LIGHT, "instruction_id")


def _pools(training: pl.DataFrame, unit: Unit) -> dict[str, _Pool]:
    size = pl.lit(1) if unit == "samples" else pl.col(f"n_{unit}")
    rows = training.with_row_index("at").select(
        "at", "domain", "sample_id", "instruction_id", size.cast(pl.Int64).alias("size")
    )
    by_domain = rows.partition_by("domain", as_dict=True, include_key=False)
    return {str(domain): _pool(Candidates(part)) for (domain,), part in by_domain.items()}


def _pool(rows: Candidates) -> _Pool:
    return _Pool(rows, rows.rows["at"].to_numpy().astype(np.int64), rows.rows["size"].to_numpy())


def _current(pools: list[_Pool]) -> pl.DataFrame:
    """Return how many rows of which instruction the new domains of a phase have (INSTRUCTION_COUNT)."""
    empty = pl.DataFrame(schema=pl.Schema(INSTRUCTION_COUNT))
    counts = [pl.DataFrame([p.rows.instruction_ids, pl.Series("n", p.rows.size, dtype=pl.UInt32)]) for p in pools]
    counted = pl.concat([empty, *counts])
    return counted.group_by("instruction_id").agg(pl.col("n").sum()).sort("instruction_id") if len(pools) > 1 else counted


def _of_phase(scores: pl.DataFrame | None, number: int) -> pl.DataFrame | None:
    """Return the scores of instructions at a phase: its own, and those of every phase where it has none of its own."""
    if scores is None or scores["phase"].null_count() == scores.height:
        return scores
    own, every = scores.filter(pl.col("phase") == number), scores.filter(pl.col("phase").is_null())
    return pl.concat([own, every.join(own, on=["instruction_id", "score"], how="anti")]) if len(every) else own


def _shares(
    number: int, phase: Phase, *, domains: tuple[str, ...], pools: Mapping[str, _Pool], max_repeats: int
) -> list[Share]:
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
        out += [Share(number, name, side is old, *numbers) for name, *numbers in columns]
    return out


class _Drawn(NamedTuple):
    """What a domain gives to a phase, and what it could give beyond that, pass by pass."""

    taken: list[pl.DataFrame]
    left: list[pl.DataFrame]


def _draw(pool: _Pool, share: Share, *, by: Order, passes: int, context: SelectContext, seed: int, to_the_end: bool) -> _Drawn:
    """Return the rows that come nearest to the share's target, pass by pass, each pass in random order, and the others."""
    out, left = _Drawn([], []), share.target
    for repeat in range(passes):
        if left <= 0 and not to_the_end:
            break
        n = min(max(round(left * len(pool.size) / pool.supply), 1), len(pool.size)) if left > 0 else len(pool.size)
        place = ("compose", share.phase, share.domain, repeat)
        order = by.order(pool.rows, context=context, n=n, seed=seed_of(seed, *place))
        reached = np.cumsum(pool.size[order])
        taken = _nearest(reached, left) if left > 0 else 0
        if left > 0:
            out.taken.append(_shuffled(pool, order, 0, taken, share=share, repeat=repeat, chance=rng(seed, "shuffle", *place)))
        if to_the_end:
            chance = rng(seed, "shuffle the reserve", *place)
            out.left.append(_shuffled(pool, order, taken, len(order), share=share, repeat=repeat, chance=chance))
        left = left - int(reached[-1]) if taken == len(order) else 0
    return out


def _shuffled(
    pool: _Pool, order: NDArray[np.int64], first: int, after: int, *, share: Share, repeat: int, chance: np.random.Generator
) -> pl.DataFrame:
    """Return a stretch of a selector's order in random order."""
    rank = first + chance.permutation(after - first)
    return pl.DataFrame({"at": pool.at[order[rank]], "rank": rank.astype(np.uint32)}).with_columns(
        repeat=pl.lit(repeat, dtype=pl.UInt32), phase=pl.lit(share.phase, dtype=pl.UInt32), is_replay=pl.lit(share.is_replay)
    )


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


def _frame(drawn: pl.DataFrame, training: pl.DataFrame, *, begin: int = 0) -> pl.DataFrame:
    rows = training.select("row", *_LIGHT)[drawn["at"]]
    position = pl.int_range(begin, begin + pl.len(), dtype=pl.UInt64)
    frame = pl.concat([drawn.drop("at"), rows], how="horizontal").with_columns(position=position)
    return check(frame, COMPOSITION, where="composition")
