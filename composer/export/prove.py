"""Whether a trainer will see the mixture that was planned: its own rule replayed on row numbers, and shares counted.

Planned is what the composition holds: its rows are the plan in the recipe's unit turned into rows. Realised is what the trainer
draws in one epoch. Rows are counted, and their tokens and loss tokens as ingest counted them; batches are not made, so packing,
a last batch that is dropped and rows that a trainer drops for their length are outside the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from composer import tables
from composer.export.trainer import Drawn, Trainer

COUNTS = ("rows", "tokens", "loss_tokens")


def prove(exporter: Trainer, folder: Path, composition: Path, *, tolerance: float) -> dict[str, Any]:
    """Return planned and realised shares of every domain, and the largest distance between them.

    Parameters
    ----------
    exporter
        What wrote the folder.
    folder
        The export's folder; the trainer's own lies in it.
    composition
        The file, COMPOSITION.
    tolerance
        Largest distance between two shares that holds.

    Returns
    -------
    It has ``target``, ``carry``, ``tolerance``, ``holds``, ``off_by``, ``rows`` (planned and realised) and ``domains``: for
    every domain and each of rows, tokens and loss_tokens the ``planned`` and the ``realised`` share.

    Raises
    ------
    InputError
        Where the trainer's config is not one that can be replayed.
    """
    frame = tables.check(pl.read_parquet(composition), tables.COMPOSITION, where=str(composition))
    light = frame.select("row", "domain", tokens="n_tokens", loss_tokens="n_loss_tokens")
    files = _files(exporter, light)
    drawn = exporter.drawn(folder / exporter.home, {path: len(rows) for path, rows in files.items()})
    planned, realised = shares(light), shares(_taken(files, drawn))
    domains = {
        domain: {
            count: {"planned": planned[count].get(domain, 0.0), "realised": realised[count].get(domain, 0.0)}
            for count in COUNTS
        }
        for domain in planned["rows"]
    }
    off_by = max(abs(share["planned"] - share["realised"]) for each in domains.values() for share in each.values())
    return {
        "target": exporter.name, "carry": exporter.carry, "seed": exporter.seed, "tolerance": tolerance,
        "holds": bool(off_by <= tolerance), "off_by": float(off_by),
        "rows": {"planned": len(light), "realised": len(drawn.numbers)}, "domains": domains,
    }  # fmt: skip


def _files(exporter: Trainer, light: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the rows of every file of the export by its path, in the order in which they lie there."""
    distinct = light.unique("row", maintain_order=True)
    counts = [dict(sorted(frame.group_by("domain").len().iter_rows())) for frame in (light, distinct)]
    return {
        part.path: light if part.domain is None else distinct.filter(pl.col("domain") == part.domain)
        for part in exporter.parts(*counts)
    }


def _taken(files: Mapping[str, pl.DataFrame], drawn: Drawn) -> pl.DataFrame:
    return pl.concat([files[path] for path in drawn.files])[drawn.numbers]


def shares(rows: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Return the share of every domain in ``rows``, ``tokens`` and ``loss_tokens``.

    Examples
    --------
    >>> rows = pl.DataFrame({"domain": ["law", "code"], "tokens": [3, 9], "loss_tokens": [1, 1]})
    >>> shares(rows)["tokens"]
    {'code': 0.75, 'law': 0.25}
    """
    sums = rows.group_by("domain").agg(rows=pl.len(), tokens=pl.col("tokens").sum(), loss_tokens=pl.col("loss_tokens").sum())
    sums = sums.sort("domain")
    values = {count: sums[count].to_numpy().astype(np.float64) for count in COUNTS}
    return {
        count: dict(zip(sums["domain"], (value / max(value.sum(), 1)).tolist(), strict=True)) for count, value in values.items()
    }
