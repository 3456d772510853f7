"""The rows of an export: a composition joined with the content of its samples, group by group, in the composition's order.

Both tables stay on disk. A row of the composition says where its sample stands, so nothing is looked up by id; the id is only
compared. Groups are cut at the same rows whatever the memory and the number of threads, and a group becomes a row group.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from composer import tables
from composer.errors import InputError, StoreError
from composer.export.ahead import ahead
from composer.export.content import Content, checked

GROUP = 20_000
"""Rows that are joined with their content at a time, and become a row group, unless they are long."""

GROUP_BYTES = 64 << 20
"""Bytes of content that a group has at most, about."""

STRETCH = 25 * GROUP
"""Rows of the composition that are read at a time; they are light."""

COLUMNS = (
    "position", "messages", "extras", "source", "source_revision", "domain", "channel", "license", "sample_id",
    "phase", "is_replay", "repeat", "n_tokens", "n_loss_tokens",
)  # fmt: skip
"""Columns of an exported row; ``channel`` is the domain once more, under the name that ms-swift reads for its losses."""

SCHEMA = pl.Schema({name: {**tables.COMPOSITION, **tables.SAMPLE, "channel": pl.String}[name] for name in COLUMNS})


class Rows:
    """The rows of a composition (the file, COMPOSITION) with the content of their samples (the file, SAMPLE).

    Parameters
    ----------
    memory
        Bytes of decoded content that may be held at once.
    aside
        A folder of its own for what does not fit.

    Raises
    ------
    InputError
        Where the composition has no rows.
    StoreError
        Where a table has other columns, or the composition is not in the order of its positions.
    """

    def __init__(self, composition: Path, samples: Path, *, memory: int, aside: Path) -> None:
        for path, schema in ((composition, tables.COMPOSITION), (samples, tables.SAMPLE)):
            tables.check(pl.DataFrame(schema=pl.read_parquet_schema(path)), schema, where=str(path))
        light = pl.scan_parquet(composition).select("row", "domain", ordered=_is_ordered()).collect()
        if light.is_empty():
            raise InputError("nothing to export: the composition has no rows", where="composition", hint="raise the budget")
        if not light["ordered"].all():
            raise StoreError("rows are not in the order of their positions", where=str(composition))
        self._path = composition
        self._row = light["row"]
        self._domain = light["domain"].cast(pl.Categorical)
        self._content = Content(samples, memory=memory, aside=aside)
        self.group = max(min(GROUP, int(GROUP_BYTES / max(self._content.row_bytes, 1))), 1)

    def __len__(self) -> int:
        return len(self._row)

    @property
    def domains(self) -> dict[str, int]:
        """How many rows every domain has, by name."""
        counts = self._domain.value_counts().select(pl.first().cast(pl.String), pl.last())
        return dict(sorted(counts.iter_rows()))

    @property
    def distinct(self) -> dict[str, int]:
        """How many different rows every domain has, by name."""
        counts = self._domain.filter(self._row.is_first_distinct()).value_counts().select(pl.first().cast(pl.String), pl.last())
        return dict(sorted(counts.iter_rows()))

    @property
    def phases(self) -> int:
        """How many phases the rows belong to."""
        return int(pl.scan_parquet(self._path).select(pl.col("phase").n_unique()).collect().item())

    def groups(self, *, domain: str | None = None, size: int | None = None, once: bool = False) -> Iterator[pl.DataFrame]:
        """Yield the exported columns of all rows, or of one domain's, group by group and begun anew after every ``size`` rows.

        With ``once`` a row that is repeated comes where it stands first, and not again.

        Raises
        ------
        StoreError
            Where a row's sample is not among the samples, or another one stands in its place.
        """
        return ahead(self._groups(domain=domain, size=size, once=once))

    def _groups(self, *, domain: str | None, size: int | None, once: bool) -> Generator[pl.DataFrame]:
        first = self._row.is_first_distinct() if once else None
        rows = self._row if first is None else self._row.filter(first)
        if domain is not None:
            rows = rows.filter((self._domain if first is None else self._domain.filter(first)) == domain)
        at = cuts(len(rows), size=size or len(rows), group=self.group)
        composed = _regrouped(self._composed(domain, first), at)
        for mine, content in zip(composed, self._content.groups(rows, at), strict=True):
            found = checked(content, mine["sample_id"]).drop("sample_id")
            yield mine.with_columns(found.get_columns()).select(COLUMNS).rechunk()

    def _composed(self, domain: str | None, first: pl.Series | None) -> Iterator[pl.DataFrame]:
        wanted = [name for name in tables.COMPOSITION if name in COLUMNS]
        scan = pl.scan_parquet(self._path).select(*wanted, channel="domain")
        for start in range(0, len(self), STRETCH):
            part = scan.slice(start, STRETCH)
            part = part if first is None else part.filter(first[start : start + STRETCH])
            yield (part if domain is None else part.filter(pl.col("domain") == domain)).collect()


def cuts(n: int, *, size: int, group: int) -> list[int]:
    """Return where groups begin, and the end: every ``group`` rows, begun anew after every ``size`` rows.

    Examples
    --------
    >>> cuts(10, size=7, group=3)
    [0, 3, 6, 7, 10]
    """
    return [*(start for first in range(0, n, size) for start in range(first, min(first + size, n), group)), n]


def licenses(composition: Path, samples: Path) -> dict[str, int]:
    """Return how many rows of a composition have which licence, the most frequent first."""
    uses = np.bincount(pl.read_parquet(composition, columns=["row"])["row"].to_numpy())
    named = pl.scan_parquet(samples).select("license").head(len(uses)).collect()
    counted = named.with_columns(rows=pl.Series(uses)).group_by("license").agg(pl.col("rows").sum()).filter(pl.col("rows") > 0)
    return dict(counted.sort(["rows", "license"], descending=[True, False]).iter_rows())


def licenses_by_source(composition: Path, samples: Path) -> dict[str, dict[str, int]]:
    """Return how many rows of a composition have which licence, by licence and source."""
    uses = np.bincount(pl.read_parquet(composition, columns=["row"])["row"].to_numpy())
    named = pl.scan_parquet(samples).select("license", "source").head(len(uses)).collect().with_columns(rows=pl.Series(uses))
    counted = named.group_by("license", "source").agg(pl.col("rows").sum()).filter(pl.col("rows") > 0)
    out: dict[str, dict[str, int]] = {}
    for license, source, rows in counted.sort("license", "source").iter_rows():
        out.setdefault(license, {})[source] = rows
    return out


def _is_ordered() -> pl.Expr:
    return pl.col("position") == pl.int_range(pl.len(), dtype=pl.UInt64)


def _regrouped(frames: Iterator[pl.DataFrame], at: Sequence[int]) -> Iterator[pl.DataFrame]:
    """Yield the rows of the frames again, from each cut to the next."""
    held = pl.DataFrame()
    for start, stop in pairwise(at):
        while len(held) < stop - start:
            held = pl.concat([held, next(frames)]) if len(held) else next(frames)
        yield held[: stop - start]
        held = held[stop - start :]
