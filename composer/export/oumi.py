"""Oumi: ``oumi train -c train.yaml``, whose ``sample_count`` is a number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from composer.errors import InputError
from composer.export.base import TrainedOn
from composer.export.rules.interleave import interleave
from composer.export.rules.resize import resize
from composer.export.trainer import Drawn, Part, Trainer, document, read, sized

ROWS = """The mix as it was composed: read once and in order.
oumi train -c train.yaml --model.model_name MODEL"""

WEIGHTS = """One file per domain, every row once. sample_count is a number of rows: whole passes, and the first rows of
one more. mixture_proportion would be a chance of every draw instead, in rows.
oumi train -c train.yaml --model.model_name MODEL"""


class Oumi(Trainer):
    """Write ``oumi/train.yaml`` and the rows it reads."""

    name: Literal["oumi"] = "oumi"
    summary: ClassVar[str] = "Oumi: rows in order, or `sample_count` rows of every domain"
    reference: ClassVar[str] = "Oumi 0.9, `DatasetParams`"
    home: ClassVar[str] = "oumi"

    def files(self, parts: Sequence[Part], how: TrainedOn) -> dict[str, str]:
        """Return ``train.yaml``."""
        counts = {part.name: {} if self.carry == "rows" else {"sample_count": part.wanted} for part in parts}
        data = {
            "datasets": [{"dataset_name": "text_sft", "dataset_path": part.path, **counts[part.name]} for part in parts],
            "collator_name": "text_completions_only_with_padding",
            "train_target": "ALL_ASSISTANT_TURNS" if how.loss_on == "all" else "FINAL_ASSISTANT_TURN",
            "seed": self.seed,
        }
        order = {"train_sampling_strategy": "sequential" if self.carry == "rows" else "random"}
        training = {
            "trainer_type": "TRL_SFT", "num_train_epochs": 1, "seed": self.seed, "output_dir": "out", "trainer_kwargs": order,
        }  # fmt: skip
        values = {
            "model": {"model_name": self.model, "model_max_length": how.max_length},
            "data": {"train": data},
            "training": training,
        }
        return {"train.yaml": document(ROWS if self.carry == "rows" else WEIGHTS, values)}

    def drawn(self, home: Path, sizes: Mapping[str, int]) -> Drawn:
        """Replay ``build_dataset_mixture``: counts first, then one after another, or interleaved by proportions.

        Raises
        ------
        InputError
            Where a file is shuffled before it is counted.
        """
        where = home / "train.yaml"
        data = read(where)["data"]["train"]
        entries = data["datasets"]
        files = tuple(entry["dataset_path"] for entry in entries)
        rows = sized(files, sizes, where=where)
        if any(entry.get("shuffle") for entry in entries):
            raise InputError("shuffle before sample_count is not replayed", where=str(where), hint="shuffle: false")
        wanted = [int(entry.get("sample_count", size)) for entry, size in zip(entries, rows, strict=True)]
        numbers = resize(rows, wanted, states=[None] * len(rows))
        if (chances := [entry.get("mixture_proportion") for entry in entries])[0] is None:
            return Drawn(files, numbers)
        stop = data.get("mixture_strategy", "first_exhausted")
        return Drawn(files, numbers[interleave(wanted, [float(p) for p in chances], seed=data["seed"], stop=stop)])
