"""The account of a composition: what was planned, what came of it, and where a domain could not give its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from composer.types import Schedule, Unit

_COUNTS = {"rows": pl.len(), "tokens": pl.col("n_tokens").sum(), "loss_tokens": pl.col("n_loss_tokens").sum()}
_COUNT_OF: Mapping[Unit, str] = {"samples": "rows", "tokens": "tokens", "loss_tokens": "loss_tokens"}


@dataclass(frozen=True)
class Share:
    """What one domain is to give to one phase, in the schedule's unit: as planned, and as far as it can."""

    phase: int
    domain: str
    is_replay: bool
    planned: int
    target: int
    available: int
    moved: int  # of what it lacks, how much other domains give in its place


def account(
    schedule: Schedule, shares: Sequence[Share], frame: pl.DataFrame, *, largest: Mapping[str, int], domains: tuple[str, ...]
) -> dict[str, Any]:
    """Return what was planned and what came of it, as plain JSON.

    Parameters
    ----------
    schedule
        What was planned.
    shares
        What every domain was to give to every phase.
    frame
        COMPOSITION: what they gave.
    largest
        The size of the largest row of every domain that has rows, in the schedule's unit.
    domains
        The recipe's domains; their order is that of the account of the whole run.

    Returns
    -------
    It has ``unit``; ``phases``, each with ``name``, ``amount`` and ``domains``, a list of accounts; ``domains``, the accounts
    of the whole run; ``total``; and ``shortages``, one ``{phase, domain, planned, available, moved}`` wherever a domain could
    not give what was planned. An account has ``planned``, ``target`` (planned after the cut), ``realised`` and
    ``off_by = realised - target``, in the unit, ``largest_row``, and the counts and shares ``rows``, ``tokens``,
    ``loss_tokens`` and ``rows_share``, ``tokens_share``, ``loss_tokens_share``.
    """
    counted = frame.group_by("phase", "domain").agg(**_COUNTS)
    counts = {(row.pop("phase"), row.pop("domain")): row for row in counted.to_dicts()}
    lines = []
    for share in shares:
        count = counts.get((share.phase, share.domain), dict.fromkeys(_COUNTS, 0))
        realised = count[_COUNT_OF[schedule.unit]]
        lines.append({
            "phase": share.phase, "domain": share.domain, "is_replay": share.is_replay, "planned": share.planned,
            "target": share.target, "realised": realised, "off_by": realised - share.target,
            "largest_row": largest.get(share.domain, 0), **count,
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
