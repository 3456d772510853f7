"""axolotl: ``axolotl train config.yaml``, which has no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from composer.errors import InputError
from composer.export.base import TrainedOn
from composer.export.rules import Numbers
from composer.export.trainer import NO_LAST, Part, Trainer

ROWS = """The mix as it was composed: axolotl has no weights, it joins its data sets one after another.
Left to itself it would shuffle them, train on the joined rows in random order, drop rows that are too long, and could remove
rows that repeat; all four are off.
axolotl train config.yaml --base-model MODEL"""


class Axolotl(Trainer):
    """Write ``axolotl/config.yaml`` and the rows it reads; batch size and learning rate in it are yours to change."""

    name: Literal["axolotl"] = "axolotl"
    carry: Literal["rows"] = "rows"
    summary: ClassVar[str] = "axolotl: rows in order, for it has no weights"
    reference: ClassVar[str] = "axolotl 0.19, `SFTDataset`"
    home: ClassVar[str] = "axolotl"
    main: ClassVar[str] = "config.yaml"
    said: ClassVar[Mapping[str, str]] = {"rows": ROWS}

    def files(self, parts: Sequence[Part], how: TrainedOn) -> dict[str, str]:
        """Return ``config.yaml``."""
        one = {
            "ds_type": "json", "split": "train", "type": "chat_template", "field_messages": "messages",
            "roles_to_train": ["assistant"], "train_on_eos": "turn",
        }  # fmt: skip
        last = [] if how.loss_on == "all" else [NO_LAST]
        values = {
            "base_model": self.model,
            "datasets": [{"path": part.path, **one} for part in parts],
            "shuffle_merged_datasets": False,
            "curriculum_sampling": True,
            "dataset_exact_deduplication": False,
            "sequence_len": how.max_length,
            "excess_length_strategy": "truncate",
            "sample_packing": False,
            "val_set_size": 0,
            "num_epochs": 1,
            "micro_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "learning_rate": 2e-5,
            "seed": self.seed,
            "dataset_prepared_path": "prepared",
            "output_dir": "out",
        }
        return {self.main: self.text(values, *last)}

    def paths(self, values: Any) -> Sequence[str]:
        """Return the data sets; a file that is listed twice is read twice."""
        return [entry["path"] for entry in values["datasets"]]

    def numbers(self, values: Any, rows: Sequence[int], *, where: Path) -> Numbers:
        """Join the data sets one after another.

        Raises
        ------
        InputError
            Where repeated rows would be removed again.
        """
        if values.get("dataset_exact_deduplication"):
            hint = "dataset_exact_deduplication: false"
            raise InputError("repeated rows would be removed", where=str(where), hint=hint)
        return np.arange(sum(rows))
