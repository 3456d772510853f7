"""Composition rows as token rows, and token rows as the batches of the optimiser's steps.

A step's batch is decided here, once and before training, so that the order on disk is the order that is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from composer.encode import Encoding, encode, wholes
from composer.errors import FaultError, InputError
from composer.progress import bar
from composer.tables import COMPOSITION, SAMPLE, check
from composer.types import LossOn

CHUNK = 512


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a composition as tokens; ``domain`` counts the domains in the order in which they first come."""

    sample_id: str
    domain: int
    encoding: Encoding


def rows(
    composition: pl.DataFrame, samples: pl.DataFrame, *, tokenizer: Any, max_length: int, loss_on: LossOn = "all"
) -> tuple[list[Row], list[str]]:
    """Return the composition's rows as tokens, in its order, and the names of its domains.

    Raises
    ------
    InputError
        Where the composition has no rows, or rows without a trained token.
    FaultError
        Where a sample is missing, cannot be encoded, or has another number of trained tokens than the composition counted.
    """
    composition = check(composition, COMPOSITION, where="composition")
    if composition.is_empty():
        raise InputError("nothing to train on: the composition has no rows", where="composition")
    _check_trained(composition)
    wanted = composition.select("sample_id").unique(maintain_order=True)
    texts = check(samples, SAMPLE, where="samples").select("sample_id", "messages", "extras")
    found = wanted.join(texts, on="sample_id", how="left")
    if missing := found.filter(pl.col("messages").is_null())["sample_id"].to_list():
        raise FaultError("a row of the composition has no sample", where="composition", got=", ".join(missing[:5]))
    encodings = _encodings(found, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on)
    domains = composition["domain"].unique(maintain_order=True).to_list()
    number = {domain: k for k, domain in enumerate(domains)}
    out: list[Row] = []
    for sample_id, domain, n in composition.select("sample_id", "domain", "n_loss_tokens").iter_rows():
        out.append(Row(sample_id, number[domain], _counted(encodings[sample_id], n, sample_id=sample_id)))
    return out, domains


def held_out_rows(
    samples: pl.DataFrame, domains: Sequence[str], *, tokenizer: Any, max_length: int, loss_on: LossOn = "all"
) -> list[Row]:
    """Return held-out SAMPLE rows of these domains as tokens, in their order; those that cannot be encoded are left out."""
    number = {domain: k for k, domain in enumerate(domains)}
    own = samples.filter(pl.col("domain").is_in(list(domains)))
    found = _encodings(own, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on)
    pairs = zip(own["sample_id"], own["domain"], strict=True)
    return [Row(i, number[domain], e) for i, domain in pairs if isinstance(e := found[i], Encoding)]


def steps(items: Sequence[Row], *, size: int, batches: Literal["mixed", "domain"]) -> list[list[Row]]:
    """Return the batches of one pass: ``size`` rows each, in order, or all of one domain.

    Batches of one domain take its rows in their order and stand where their rows stood on average, so that a domain's share
    over time stays what the composition made it.

    Examples
    --------
    >>> items = [Row(str(i), domain, Encoding((1, 2), (False, True))) for i, domain in enumerate([0, 1, 1, 0, 0, 1, 0])]
    >>> [[row.sample_id for row in batch] for batch in steps(items, size=2, batches="mixed")]
    [['0', '1'], ['2', '3'], ['4', '5'], ['6']]
    >>> [[row.sample_id for row in batch] for batch in steps(items, size=2, batches="domain")]
    [['0', '3'], ['1', '2'], ['4', '6'], ['5']]
    """
    places: dict[int, list[int]] = {}
    for i, row in enumerate(items):
        places.setdefault(row.domain if batches == "domain" else 0, []).append(i)
    blocks = [rows[i : i + size] for rows in places.values() for i in range(0, len(rows), size)]
    blocks.sort(key=lambda block: (sum(block) / len(block), block[0]))
    return [[items[i] for i in block] for block in blocks]


def _check_trained(composition: pl.DataFrame) -> None:
    untrained = composition.filter(pl.col("n_loss_tokens") == 0)["sample_id"].unique(maintain_order=True).to_list()
    if untrained:
        more = f" and {len(untrained) - 5} more" if len(untrained) > 5 else ""
        raise InputError(
            "rows without a trained token",
            where="composition",
            expected="at least one in each row",
            got=f"none in {', '.join(untrained[:5])}{more}",
            hint="leave these rows out, or ingest with a higher max_length",
        )


def _encodings(samples: pl.DataFrame, *, tokenizer: Any, max_length: int, loss_on: LossOn) -> dict[str, Encoding | str]:
    out: dict[str, Encoding | str] = {}
    with bar("encode", total=samples.height, unit="samples") as shown:
        for part in samples.iter_slices(CHUNK):
            encodings = encode(tokenizer, wholes(part), max_length=max_length, loss_on=loss_on)
            out.update(zip(part["sample_id"], encodings, strict=True))
            shown.advance(part.height)
    return out


def _counted(encoding: Encoding | str, n: int, *, sample_id: str) -> Encoding:
    where = f"sample {sample_id}"
    if isinstance(encoding, str):
        raise FaultError(f"cannot be trained on: {encoding}", where=where, hint="ingest with this model's tokenizer")
    if encoding.n_loss_tokens != n:
        hint = "the samples were counted with another tokenizer, chat template, max_length or loss_on"
        raise FaultError("trained tokens differ", where=where, expected=f"{n}", got=encoding.n_loss_tokens, hint=hint)
    return encoding
