"""ms-swift: ``swift sft sft.yaml``, whose ``file#N`` is a number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from composer.export.base import TrainedOn
from composer.export.rules import Numbers
from composer.export.rules.interleave import interleaved
from composer.export.rules.resize import resize
from composer.export.trainer import Part, Trainer

ROWS = """The mix as it was composed: read once and in order (both shuffles are off).
swift sft sft.yaml --model MODEL"""

WEIGHTS = """One file per domain, every row once. file#N takes N rows: whole passes, and the rest by chance.
swift sft sft.yaml --model MODEL"""


class MsSwift(Trainer):
    """Write ``ms_swift/sft.yaml`` and the rows it reads."""

    name: Literal["ms_swift"] = "ms_swift"
    summary: ClassVar[str] = "ms-swift: rows in order, or `file#N` rows of every domain"
    reference: ClassVar[str] = "ms-swift 4.6, `DatasetSyntax`"
    home: ClassVar[str] = "ms_swift"
    said: ClassVar[Mapping[str, str]] = {"rows": ROWS, "weights": WEIGHTS}

    def files(self, parts: Sequence[Part], how: TrainedOn) -> dict[str, str]:
        """Return ``sft.yaml``."""
        shuffled = self.carry == "weights"
        values = {
            "model": self.model,
            "dataset": [f"{part.path}#{part.wanted}" if shuffled else part.path for part in parts],
            "split_dataset_ratio": 0,
            "dataset_shuffle": shuffled,
            "train_dataloader_shuffle": shuffled,
            "max_length": how.max_length,
            "truncation_strategy": "right",
            "loss_scale": "default" if how.loss_on == "all" else "last_round",
            "packing": False,
            "num_train_epochs": 1,
            "seed": self.seed,
            "data_seed": self.seed,
            "output_dir": "out",
        }
        return {self.main: self.text(values)}

    def paths(self, values: Any) -> Sequence[str]:
        """Return the files without their counts."""
        return [path for path, _ in _parted(values)]

    def numbers(self, values: Any, rows: Sequence[int], *, where: Path) -> Numbers:  # noqa: ARG002
        """Replay ``load_dataset`` before its last shuffle: counts first, then one after another, or interleaved."""
        state = np.random.RandomState(values.get("data_seed", 42))
        wanted = [int(n) if n else size for (_, n), size in zip(_parted(values), rows, strict=True)]
        drawn = resize(rows, wanted, states=_states(state, len(rows), shuffled=values.get("dataset_shuffle", True)))
        stop = values.get("stopping_strategy", "first_exhausted")
        return interleaved(drawn, wanted, values.get("interleave_prob"), seed=_seed(state), stop=stop)


def _parted(values: Any) -> list[tuple[str, str]]:
    """Return file and count of every entry."""
    return [(path, n) for path, _, n in (each.partition("#") for each in values["dataset"])]


def _states(state: np.random.RandomState, n: int, *, shuffled: bool) -> Iterator[np.random.RandomState | None]:
    """Yield the one state for file after file; every file takes a seed from it first, for what it does not use here."""
    for _ in range(n):
        _seed(state)
        yield state if shuffled else None


def _seed(state: np.random.RandomState) -> int:
    return int(state.randint(0, np.iinfo(np.int32).max))
