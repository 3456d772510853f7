"""What the tests of orders share: rows that are only drawn, and an order's steps by the names of their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from composer.encode import Encoding
from composer.train.batches import Row
from composer.train.order import Order, Weighted

few = settings(max_examples=50, deadline=None)
ENCODING = Encoding((1, 2), (False, True))
SIZES = st.lists(st.lists(st.integers(1, 300), max_size=25), min_size=1, max_size=6).filter(any)
BATCHES = st.sampled_from(["mixed", "domain"])
Supply = list[list[tuple[Row, int]]]


def rows_of(sizes: list[list[int]]) -> Supply:
    return [[(Row.of(f"{k}:{i}", k, ENCODING), n) for i, n in enumerate(of_domain)] for k, of_domain in enumerate(sizes)]


def weighted(supply: Supply, **given: Any) -> Weighted:
    return Weighted([([row for row, _ in of_domain], [n for _, n in of_domain]) for of_domain in supply], **given)


def most_steps(supply: Supply, *, size: int, batches: str) -> int:
    parts = [len(rows) for rows in supply] if batches == "domain" else [sum(map(len, supply))]
    return sum(-(-n // size) for n in parts)


def ids(steps: list[list[Row]]) -> list[list[str]]:
    return [[row.sample_id for row in step] for step in steps]


def weights_at(step: int, k: int, *, seed: int) -> list[float]:
    return list(np.random.default_rng([seed, step]).dirichlet(np.ones(k)) + 1e-3)


def everything(order: Order, *, k: int, seed: int | None = None) -> list[list[str]]:
    out = []
    for step in range(order.n_steps):
        if seed is not None:
            order.set_weights(weights_at(step, k, seed=seed))  # type: ignore[attr-defined]
        out.append(order.take())
    return ids(out)
