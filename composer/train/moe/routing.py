"""What routers did in a training, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from composer.tables import ROUTING
from composer.train.moe.placed import Placed


def routing(placed: Placed, domains: Sequence[str], expert_types: Sequence[str]) -> pl.DataFrame:
    """Return ROUTING: of every map, each domain in its tokens and each expert the mean share, over all of training.

    A domain of which no row was trained on is left out.
    """
    assert placed.n_tokens is not None
    shares, n_tokens, rows = placed.shares().tolist(), placed.n_tokens.tolist(), []
    for path, of_map in zip(placed.maps, shares, strict=True):
        for domain, of_domain, n in zip(domains, of_map, n_tokens, strict=True):
            if not n:
                continue
            for expert, (kind, share) in enumerate(zip(expert_types, of_domain, strict=True)):
                rows.append({
                    "map": path, "domain": domain, "expert": expert, "type": kind, "share": share, "n_tokens": int(n),
                })  # fmt: skip
    return pl.DataFrame(rows, schema=ROUTING)
