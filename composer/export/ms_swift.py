"""ms-swift: ``swift sft sft.yaml``, whose ``file#N`` is a number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from composer.export.base import TrainedOn
from composer.export.rules.interleave import interleave
from composer.export.rules.resize import resize
from composer.export.trainer import Drawn, Part, Trainer, document, read, sized

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
        return {"sft.yaml": document(WEIGHTS if shuffled else ROWS, values)}

    def drawn(self, home: Path, sizes: Mapping[str, int]) -> Drawn:
        """Replay ``load_dataset`` before its last shuffle: counts first, then one after another, or interleaved."""
        where = home / "sft.yaml"
        values = read(where)
        parted = [each.rpartition("#") if "#" in each else (each, "", "") for each in values["dataset"]]
        files = tuple(path for path, _, _ in parted)
        rows = sized(files, sizes, where=where)
        state = np.random.RandomState(values.get("data_seed", 42))
        wanted = [int(n) if n else size for (_, _, n), size in zip(parted, rows, strict=True)]
        states = _states(state, len(rows), shuffled=values.get("dataset_shuffle", True))
        numbers = resize(rows, wanted, states=states)
        if not values.get("interleave_prob") or len(files) == 1:
            return Drawn(files, numbers)
        seed, stop = _seed(state), values.get("stopping_strategy", "first_exhausted")
        return Drawn(files, numbers[interleave(wanted, values["interleave_prob"], seed=seed, stop=stop)])


def _states(state: np.random.RandomState, n: int, *, shuffled: bool) -> Iterator[np.random.RandomState | None]:
    """Yield the one state for file after file; every file takes a seed from it first, for what it does not use here."""
    for _ in range(n):
        _seed(state)
        yield state if shuffled else None


def _seed(state: np.random.RandomState) -> int:
    return int(state.randint(0, np.iinfo(np.int32).max))
