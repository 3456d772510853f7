"""Oumi: ``oumi train -c train.yaml``, whose ``sample_count`` is a number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from composer.errors import InputError
from composer.export.base import TrainedOn
from composer.export.rules import Numbers
from composer.export.rules.interleave import interleaved
from composer.export.rules.resize import resize
from composer.export.trainer import Part, Trainer

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
    main: ClassVar[str] = "train.yaml"
    said: ClassVar[Mapping[str, str]] = {"rows": ROWS, "weights": WEIGHTS}

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
        return {self.main: self.text(values)}

    def paths(self, values: Any) -> Sequence[str]:
        """Return the data sets' files."""
        return [entry["dataset_path"] for entry in values["data"]["train"]["datasets"]]

    def numbers(self, values: Any, rows: Sequence[int], *, where: Path) -> Numbers:
        """Replay ``build_dataset_mixture``: counts first, then one after another, or interleaved by proportions.

        Raises
        ------
        InputError
            Where a file is shuffled before it is counted.
        """
        data = values["data"]["train"]
        entries = data["datasets"]
        if any(entry.get("shuffle") for entry in entries):
            raise InputError("shuffle before sample_count is not replayed", where=str(where), hint="shuffle: false")
        wanted = [int(entry.get("sample_count", size)) for entry, size in zip(entries, rows, strict=True)]
        chances = [float(entry["mixture_proportion"]) for entry in entries if "mixture_proportion" in entry]
        stop = data.get("mixture_strategy", "first_exhausted")
        return interleaved(resize(rows, wanted, states=[None] * len(rows)), wanted, chances, seed=data["seed"], stop=stop)
