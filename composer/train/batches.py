"""Composition rows as token rows, and token rows as the batches of the optimiser's steps.

A step's batch is decided here, once and before training, so that the order on disk is the order that is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.encode import Encoding, encode, wholes
from composer.errors import FaultError, InputError
from composer.progress import bar
from composer.tables import COMPOSITION, SAMPLE, check
from composer.types import LossOn

CHUNK = 512


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of a composition as tokens; ``domain`` counts the domains in the order in which they first come.

    ``ids`` is int32 and ``trained`` bool, both of shape (tokens,); nothing predicts the first token, which is never trained on.
    """

    sample_id: str
    domain: int
    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]

    @classmethod
    def of(cls, sample_id: str, domain: int, encoding: Encoding) -> Row:
        """Return the row of an encoded sample."""
        trained = np.array(encoding.trained, dtype=np.bool_)
        trained[:1] = False
        return cls(sample_id, domain, np.array(encoding.ids, dtype=np.int32), trained)

    @property
    def n_tokens(self) -> int:
        """How many tokens it has."""
        return len(self.ids)

    @property
    def n_loss_tokens(self) -> int:
        """How many of them are trained on."""
        return int(np.count_nonzero(self.trained))


class Reader:
    """The rows of a composition, read as tokens when they are asked for.

    All that can be told without reading is told at once: rows without a trained token, and rows without a sample.

    Parameters
    ----------
    composition, samples
        COMPOSITION rows and the SAMPLE rows that hold their messages.
    tokenizer, max_length, loss_on
        As ingest counted with them.

    Raises
    ------
    InputError
        Where the composition has no rows, or rows without a trained token.
    FaultError
        Where a sample is missing.
    """

    def __init__(
        self, composition: pl.DataFrame, samples: pl.DataFrame, *, tokenizer: Any, max_length: int, loss_on: LossOn = "all"
    ) -> None:  # fmt: skip
        rows = check(composition, COMPOSITION, where="composition")
        if rows.is_empty():
            raise InputError("nothing to train on: the composition has no rows", where="composition")
        _check_trained(rows)
        texts = (
            check(samples, SAMPLE, where="samples")
            .select("sample_id", "messages", "extras")
            .unique("sample_id", keep="first", maintain_order=True)
        )
        places = texts.select("sample_id").with_row_index("at")
        self.table = rows.select("sample_id", "domain", "n_tokens", "n_loss_tokens").join(
            places, on="sample_id", how="left", maintain_order="left"
        )
        if missing := self.table.filter(pl.col("at").is_null())["sample_id"].to_list():
            raise FaultError("a row of the composition has no sample", where="composition", got=", ".join(missing[:5]))
        self.domains: list[str] = rows["domain"].unique(maintain_order=True).to_list()
        self._texts, self._number = texts, {domain: k for k, domain in enumerate(self.domains)}
        self._how = {"tokenizer": tokenizer, "max_length": max_length, "loss_on": loss_on}

    def read(self, places: Sequence[int], *, shown: bool = True) -> list[Row]:
        """Return the rows at places of the composition; with ``shown`` there is a bar.

        Raises
        ------
        FaultError
            Where a sample cannot be encoded, or has another number of tokens than the composition counted.
        """
        wanted = self.table[places]
        found = _rows(self._texts[wanted["at"].unique(maintain_order=True)], shown=shown, **self._how)
        out = []
        for sample_id, domain, n_tokens, n_loss_tokens in wanted.drop("at").iter_rows():
            row = _counted(found[sample_id], n_tokens, n_loss_tokens, sample_id=sample_id)
            out.append(Row(sample_id, self._number[domain], row.ids, row.trained))
        return out


class Supply(Sequence[Row]):
    """A domain's rows in the order in which they are to be taken; those at ``later`` places are read when they are reached."""

    def __init__(self, now: Sequence[Row], later: Sequence[int], reader: Reader) -> None:
        self._now, self._later, self._reader = now, later, reader
        self._begin, self._read = len(now), list[Row]()

    def __len__(self) -> int:
        return len(self._now) + len(self._later)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        i = range(len(self))[at]
        if i < len(self._now):
            return self._now[i]
        if not self._begin <= i < self._begin + len(self._read):
            self._begin, first = i, i - len(self._now)
            self._read = self._reader.read(self._later[first : first + CHUNK], shown=False)
        return self._read[i - self._begin]


def held_out_rows(
    samples: pl.DataFrame, domains: Sequence[str], *, tokenizer: Any, max_length: int, loss_on: LossOn = "all"
) -> list[Row]:
    """Return held-out SAMPLE rows of these domains as tokens, in their order; those that cannot be encoded are left out."""
    number = {domain: k for k, domain in enumerate(domains)}
    own = samples.filter(pl.col("domain").is_in(list(domains)))
    found = _rows(own, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on)
    pairs = [(number[domain], found[i]) for i, domain in zip(own["sample_id"], own["domain"], strict=True)]
    return [Row(row.sample_id, k, row.ids, row.trained) for k, row in pairs if isinstance(row, Row)]


def steps(items: Sequence[Row], *, size: int, batches: Literal["mixed", "domain"]) -> list[list[Row]]:
    """Return the batches of one pass: ``size`` rows each, in order, or all of one domain.

    Batches of one domain take its rows in their order and stand where their rows stood on average, so that a domain's share
    over time stays what the composition made it.

    Examples
    --------
    >>> items = [Row.of(str(i), domain, Encoding((1, 2), (False, True))) for i, domain in enumerate([0, 1, 1, 0, 0, 1, 0])]
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


def _rows(
    samples: pl.DataFrame, *, tokenizer: Any, max_length: int, loss_on: LossOn, shown: bool = True
) -> dict[str, Row | str]:
    """Return every sample as a row, of no domain yet, or the reason why it cannot be one."""
    out: dict[str, Row | str] = {}
    with bar("encode", total=samples.height, unit="samples") if shown else nullcontext() as progress:
        for part in samples.iter_slices(CHUNK):
            encodings = encode(tokenizer, wholes(part), max_length=max_length, loss_on=loss_on)
            for sample_id, found in zip(part["sample_id"], encodings, strict=True):
                out[sample_id] = Row.of(sample_id, 0, found) if isinstance(found, Encoding) else found
            if progress is not None:
                progress.advance(part.height)
    return out


def _counted(row: Row | str, n_tokens: int, n_loss_tokens: int, *, sample_id: str) -> Row:
    where = f"sample {sample_id}"
    if isinstance(row, str):
        raise FaultError(f"cannot be trained on: {row}", where=where, hint="ingest with this model's tokenizer")
    hint = "the samples were counted with another tokenizer, chat template, max_length or loss_on"
    for what, counted, got in (("trained tokens", n_loss_tokens, row.n_loss_tokens), ("tokens", n_tokens, row.n_tokens)):
        if got != counted:
            raise FaultError(f"{what} differ", where=where, expected=f"{counted}", got=got, hint=hint)
    return row
