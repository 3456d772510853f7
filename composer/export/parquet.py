"""Parquet in the layout of a Hugging Face dataset: the whole mix as the default config, and one config per domain.

``mix/train-*.parquet`` holds every row in the composition's order and ``data/<domain>/train-*.parquet`` the rows of one domain.
The configs are named in the card's front matter, which lies beside them as ``README.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl
from pydantic import Field

from composer.errors import InputError
from composer.export.base import MIX, Exporter, Rows, config

RESERVED = (MIX, "chat", "default")


class Parquet(Exporter):
    """Write zstd Parquet shards of at most ``rows_per_shard`` rows, byte for byte the same for the same composition."""

    name: Literal["parquet"] = "parquet"
    summary: ClassVar[str] = "a Hugging Face dataset: the mix as default config, one config per domain"
    reference: ClassVar[str] = "datasets, repository structure"
    rows_per_shard: int = Field(default=500_000, ge=1)

    def write(self, composition: pl.DataFrame, samples: pl.DataFrame, folder: Path) -> dict[str, Any]:
        """Write the mix and every domain that has rows; return the rows and shards of every config."""
        rows = Rows(composition, samples)
        counts = {str(d): int(n) for d, n in composition.group_by("domain", maintain_order=True).len().iter_rows()}
        domains = sorted(counts)
        _check(domains)
        written = {MIX: len(composition), **{domain: counts[domain] for domain in domains}}
        for config_name, n in written.items():
            self._shards(rows, folder / directory(config_name), n, domain=None if config_name == MIX else config_name)
        shards = {config_name: -(-n // self.rows_per_shard) for config_name, n in written.items()}
        return {"rows": written, "shards": shards}

    def configs(self, domains: Sequence[str]) -> list[dict[str, Any]]:
        """Return the mix and one config per domain.

        Examples
        --------
        >>> Parquet().configs(["law"])[1]
        {'config_name': 'law', 'data_files': [{'split': 'train', 'path': 'data/law/train-*.parquet'}]}
        """
        return [config(name, f"{directory(name)}/train-*.parquet") for name in (MIX, *sorted(domains))]

    def _shards(self, rows: Rows, folder: Path, n: int, *, domain: str | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        of = -(-n // self.rows_per_shard)
        for i, shard in enumerate(rows.slices(domain=domain, size=self.rows_per_shard)):
            path = folder / f"train-{i:05d}-of-{of:05d}.parquet"
            shard.rechunk().write_parquet(path, compression="zstd", compression_level=3, row_group_size=10_000)


def directory(config_name: str) -> str:
    """Return the folder of a config, below the export's.

    Examples
    --------
    >>> directory("mix"), directory("law")
    ('mix', 'data/law')
    """
    return MIX if config_name == MIX else f"data/{config_name}"


def _check(domains: Sequence[str]) -> None:
    # A loader takes "default" for the default config and passes over hidden folders.
    for domain in domains:
        if domain in RESERVED or domain.startswith("."):
            expected = f"a name other than {' and '.join(RESERVED)} that does not begin with a dot"
            raise InputError("a domain that cannot be exported", where="domain", got=domain, expected=expected)
