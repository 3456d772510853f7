"""Parquet in the layout of a Hugging Face dataset: the whole mix as the default config, and one config per domain.

``mix/train-*.parquet`` holds every row in the composition's order and ``data/<domain>/train-*.parquet`` the rows of one domain.
The configs are named in the card's front matter, which lies beside them as ``README.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from composer.errors import SpecError
from composer.export.base import USUAL, Exporter, TrainedOn, config
from composer.export.rows import Rows
from composer.export.sink import sink
from composer.progress import Bar, bar

MIX = "mix"
"""Name of the whole mix beside the domains."""

RESERVED = (MIX, "chat", "default")


class Parquet(Exporter):
    """Write zstd Parquet shards of at most ``rows_per_shard`` rows, byte for byte the same for the same composition.

    Without ``per_domain`` there is the mix alone, which takes half the time and half the disk.
    """

    name: Literal["parquet"] = "parquet"
    summary: ClassVar[str] = "a Hugging Face dataset: the mix as default config, one config per domain"
    reference: ClassVar[str] = "datasets, repository structure"
    rows_per_shard: int = Field(default=500_000, ge=1)
    per_domain: bool = True

    def write(self, composition: Path, samples: Path, folder: Path, *, how: TrainedOn = USUAL) -> dict[str, Any]:  # noqa: ARG002
        """Write the mix and every domain that has rows; return the rows and shards of every config."""
        rows = self.rows(composition, samples, folder)
        self.check(list(rows.domains))
        written = {MIX: len(rows), **(rows.domains if self.per_domain else {})}
        for config_name, n in written.items():
            with bar(f"export {config_name}", total=n) as shown:
                self._shards(rows, folder / directory(config_name), n, domain=None if config_name == MIX else config_name,
                             shown=shown)  # fmt: skip
        return {"rows": written, "shards": {config_name: self._n_shards(n) for config_name, n in written.items()}}

    def configs(self, domains: Sequence[str]) -> list[dict[str, Any]]:
        """Return the mix and one config per domain.

        Examples
        --------
        >>> Parquet().configs(["law"])[1]
        {'config_name': 'law', 'data_files': [{'split': 'train', 'path': 'data/law/train-*.parquet'}]}
        """
        names = (MIX, *sorted(domains)) if self.per_domain else (MIX,)
        return [config(name, f"{directory(name)}/train-*.parquet") for name in names]

    def check(self, domains: Sequence[str]) -> None:
        """Refuse what a loader would mistake: it takes "default" for the default config and passes over hidden folders.

        Examples
        --------
        >>> Parquet().check(["law", "mix"])
        Traceback (most recent call last):
        composer.errors.SpecError: domain: a domain that cannot be exported; ...
        """
        for domain in domains:
            if domain in RESERVED or domain.startswith("."):
                expected = f"a name other than {' and '.join(RESERVED)} that does not begin with a dot"
                raise SpecError("a domain that cannot be exported", where="domain", got=domain, expected=expected)

    def _n_shards(self, n: int) -> int:
        return -(-n // self.rows_per_shard)

    def _shards(self, rows: Rows, folder: Path, n: int, *, domain: str | None, shown: Bar) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        groups = rows.groups(domain=domain, size=self.rows_per_shard)
        for i in range(self._n_shards(n)):
            path = folder / f"train-{i:05d}-of-{self._n_shards(n):05d}.parquet"
            sink(islice(groups, -(-self.rows_per_shard // rows.group)), path, row_group=rows.group, shown=shown)


def directory(config_name: str) -> str:
    """Return the folder of a config, below the export's.

    Examples
    --------
    >>> directory("mix"), directory("law")
    ('mix', 'data/law')
    """
    return MIX if config_name == MIX else f"data/{config_name}"
