"""What every exporter shares: the one method, and what it may ask for.

An exporter writes the mix as it was composed: rows already chosen, repeated and ordered. Whatever reads the files then needs
plain concatenation, and no trainer's own notion of a weight can change the mixture, unless it is asked to (``carry: weights``
of :mod:`composer.export.trainer`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from composer.export.rows import Rows
from composer.spec import Spec, outside_identity
from composer.types import LossOn


class TrainedOn(NamedTuple):
    """What of a row is trained on: its first ``max_length`` tokens, and of these all assistant turns or the last."""

    max_length: int = 1024
    loss_on: LossOn = "all"


USUAL = TrainedOn()


class Exporter(Spec, ABC):
    """A way to write a composition for others to read.

    ``memory_gb`` (10^9 bytes) bounds the decoded content that is held at once. A larger pool goes through buckets beside the
    output, which take as much disk as it has content while they are there; the files are the same to the byte.
    """

    summary: ClassVar[str]
    reference: ClassVar[str] = "-"
    memory_gb: float = outside_identity(1.0, gt=0)

    @abstractmethod
    def write(self, composition: Path, samples: Path, folder: Path, *, how: TrainedOn = USUAL) -> dict[str, Any]:
        """Write the rows of a composition (COMPOSITION), in its order, with their content (SAMPLE) and return what was written.

        Both are files; the composition's ``row`` is a place in the samples. ``how`` is for the configs of trainers.

        Raises
        ------
        StoreError
            Where a row's sample is not among the samples, or another one stands in its place.
        InputError
            Where there is nothing to export.
        SpecError
            Where a domain cannot name a folder.
        """

    @abstractmethod
    def configs(self, domains: Sequence[str]) -> list[dict[str, Any]]:
        """Return what it writes for a mix of these domains as ``configs`` of a card's front matter, the whole mix first."""

    def check(self, domains: Sequence[str]) -> None:
        """Take notice of the domains before anything is made.

        Raises
        ------
        SpecError
            Where one of them cannot be exported under its name.
        """

    def rows(self, composition: Path, samples: Path, folder: Path) -> Rows:
        """Return the rows to write into a folder."""
        return Rows(composition, samples, memory=int(self.memory_gb * 1e9), aside=folder / ".buckets")


def config(name: str, path: str) -> dict[str, Any]:
    """Return one entry of a card's ``configs``: a name and the files of its train split, relative to the export's folder."""
    return {"config_name": name, "data_files": [{"split": "train", "path": path}]}
