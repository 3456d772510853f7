"""Whom a Mixture-of-LoRAs asks: of every domain's held-out prompts, the share that its routers send to each expert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from composer.encode import Encoding, encode, wholes
from composer.tables import ROUTES
from composer.types import LossOn
from probes.engines.causal import batches

BASE = "(base)"


def routes(session: Any, samples: pl.DataFrame, *, max_length: int, loss_on: LossOn = "all") -> pl.DataFrame:
    """Return ROUTES of SAMPLE rows, by what a session that routes decides on their prompts.

    A prompt is what stands before the first token that is trained on. Where blocks decide for themselves, a share is the mean
    over them. The base has a row where it answered alone.
    """
    names = session.experts
    encodings = encode(session.tokenizer, wholes(samples), max_length=max_length, loss_on=loss_on)
    found = [(i, each) for i, each in enumerate(encodings) if isinstance(each, Encoding)]
    prompts = [each.ids[: each.trained[1:].index(True) + 1] for _, each in found]
    taken, given = np.zeros((len(prompts), len(names) + 1)), np.zeros((len(prompts), len(names)))
    for rows in batches([len(prompt) for prompt in prompts], session.batch_tokens):
        decided = session.route([prompts[row] for row in rows])
        experts = decided.experts.cpu().numpy()  # (blocks, rows); -1 is the base, which is the last column
        for expert in range(-1, len(names)):
            taken[rows, expert] = (experts == expert).mean(axis=0)
        given[rows] = decided.log_probs.double().exp().mean(dim=0).cpu().numpy()
    return _told(samples["domain"].gather([i for i, _ in found]), names, taken, given)


def _told(domains: pl.Series, names: Sequence[str], taken: np.ndarray, given: np.ndarray) -> pl.DataFrame:
    rows: list[tuple[str, str, int, float, float | None]] = []
    for domain in domains.unique(maintain_order=True):
        own = (domains == domain).to_numpy()
        for k, name in enumerate(names):
            rows.append((domain, name, int(own.sum()), float(taken[own, k].mean()), float(given[own, k].mean())))
        if taken[:, -1].any():
            rows.append((domain, BASE, int(own.sum()), float(taken[own, -1].mean()), None))
    return pl.DataFrame(rows, schema=dict(ROUTES), orient="row")
