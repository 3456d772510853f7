"""What every exporter shares: the one method, and the rows of the composition with their content, slice by slice.

An exporter writes the mix as it was composed: rows already chosen, repeated and ordered. Whatever reads the files then needs
plain concatenation, and no trainer's own notion of a weight can change the mixture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from composer import tables
from composer.errors import InputError, StoreError
from composer.progress import bar
from composer.spec import Spec

SLICE = 65_536
"""Rows that are joined with their content at a time, so that memory follows the slice and not the mix."""

MIX = "mix"
"""Name of the whole mix beside the domains."""

COLUMNS = (
    "position", "messages", "source", "domain", "channel", "license", "sample_id",
    "phase", "is_replay", "repeat", "n_tokens", "n_loss_tokens",
)  # fmt: skip
"""Columns of an exported row; ``channel`` is the domain once more, under the name that ms-swift reads for its losses."""


class Exporter(Spec, ABC):
    """A way to write a composition for others to read."""

    summary: ClassVar[str]
    reference: ClassVar[str] = "-"

    @abstractmethod
    def write(self, composition: pl.DataFrame, samples: pl.DataFrame, folder: Path) -> dict[str, Any]:
        """Write the rows of a composition (COMPOSITION), in its order, with their content (SAMPLE) and return what was written.

        Raises
        ------
        StoreError
            Where a row's sample is not among the samples.
        InputError
            Where there is nothing to export, or a domain cannot name a folder.
        """

    @abstractmethod
    def configs(self, domains: Sequence[str]) -> list[dict[str, Any]]:
        """Return what it writes for a mix of these domains as ``configs`` of a card's front matter, the whole mix first."""


class Rows:
    """The rows of a composition with the content of their samples, in the composition's order."""

    def __init__(self, composition: pl.DataFrame, samples: pl.DataFrame) -> None:
        tables.check(composition, tables.COMPOSITION, where="composition")
        tables.check(samples, tables.SAMPLE, where="samples")
        if composition.is_empty():
            raise InputError("nothing to export: the composition has no rows", where="composition", hint="raise the budget")
        self.composition = composition.sort("position")
        self._content = samples.select("messages", "license")
        index = samples.select("sample_id").with_row_index("row")
        found = self.composition.select("sample_id").join(index, on="sample_id", how="left", maintain_order="left")
        if found["row"].null_count():
            missing = found.filter(pl.col("row").is_null())["sample_id"]
            raise StoreError("samples of the composition are not in the pool", where=missing[0], got=f"{len(missing)} missing")
        self._row = found["row"]

    def slices(self, *, domain: str | None = None, size: int = SLICE) -> Iterator[pl.DataFrame]:
        """Yield the exported columns of all rows, or of one domain's, ``size`` rows at a time."""
        wanted = pl.int_range(pl.len(), dtype=pl.UInt32)
        places = self.composition.select(wanted if domain is None else wanted.filter(pl.col("domain") == domain)).to_series()
        with bar(f"export {domain or MIX}", total=len(places)) as shown:
            for start in range(0, len(places), size):
                at = places.slice(start, size)
                content = self._content[self._row.gather(at)]
                rows = self.composition[at].with_columns(pl.col("domain").alias("channel"))
                yield pl.concat([rows, content], how="horizontal").select(COLUMNS)
                shown.advance(len(at))


def config(name: str, path: str) -> dict[str, Any]:
    """Return one entry of a card's ``configs``: a name and the files of its train split, relative to the export's folder."""
    return {"config_name": name, "data_files": [{"split": "train", "path": path}]}
