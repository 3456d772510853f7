"""What a training leaves behind of itself: its trace, a row per step and domain, and its sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from composer.tables import TRACE

if TYPE_CHECKING:
    from composer.train.trainer import Step


def series(name: str, domains: Sequence[str], values: Iterable[Any]) -> dict[str, float]:
    """Return one figure of every domain under the names that loggers see; what is not a number is left out.

    The names are ``loss`` and ``share`` of a step's trained tokens, and at every look ``weight`` and ``held_out_loss``.

    Examples
    --------
    >>> series("weight", ["law", "code"], [0.25, 0.75])
    {'weight/law': 0.25, 'weight/code': 0.75}
    """
    return {f"{name}/{domain}": float(value) for domain, value in zip(domains, values, strict=True) if np.isfinite(value)}


def trace_of(taken: Sequence[Step], domains: Sequence[str]) -> pl.DataFrame:
    """Return TRACE: of every step and each domain in it the share of its trained tokens, their mean loss and number."""
    out: list[dict[str, Any]] = []
    position = 0
    for i, step in enumerate(taken):
        for k in np.flatnonzero(step.counts).tolist():
            out.append({
                "step": i, "position": position, "domain": domains[k], "weight": step.counts[k] / step.counts.sum(),
                "loss_nats": step.losses[k] / step.counts[k], "n_tokens": step.counts[k],
            })  # fmt: skip
        position += step.n_rows
    return pl.DataFrame(out, schema=TRACE)


def sums_of(taken: Sequence[Step], domains: Sequence[str]) -> dict[str, Any]:
    """Return the sums of a training, as plain JSON (see :func:`composer.train.train.train`)."""
    losses = np.sum([step.losses for step in taken], axis=0)
    counts = np.sum([step.counts for step in taken], axis=0)
    return {
        "steps": len(taken),
        "samples": sum(step.n_rows for step in taken),
        "n_tokens": sum(step.n_tokens for step in taken),
        "n_loss_tokens": int(counts.sum()),
        "loss_first": taken[0].loss,
        "loss_last": taken[-1].loss,
        "domains": {
            domain: {"n_loss_tokens": int(counts[k]), "loss_nats": float(losses[k] / counts[k])}
            for k, domain in enumerate(domains)
        },
    }
