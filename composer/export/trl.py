"""TRL: ``trl sft --config sft.yaml``, whose ``fraction`` is a share of the final mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from composer.export.base import TrainedOn
from composer.export.rules import Numbers
from composer.export.rules.fraction import fraction
from composer.export.trainer import NO_LAST, Part, Trainer

ROWS = """The mix as it was composed: read once, in its order, nothing drawn. A fraction would be no help here.
trl sft --config sft.yaml --model_name_or_path MODEL"""

WEIGHTS = """One file per domain, every row once. fraction is a share of the rows of the final mixture: TRL takes the first rows
of every file, as many as the scarcest file allows, and never repeats one. So the shares hold and the size does not.
trl sft --config sft.yaml --model_name_or_path MODEL"""


class Trl(Trainer):
    """Write ``trl/sft.yaml`` and the rows it reads.

    ``assistant_only_loss`` asks for a chat template that marks what the assistant says; there is no word for its last turn.
    """

    name: Literal["trl"] = "trl"
    summary: ClassVar[str] = "TRL: rows in order, or `fraction` of the final mixture"
    reference: ClassVar[str] = "TRL 1.16, `DatasetMixtureConfig`"
    home: ClassVar[str] = "trl"
    said: ClassVar[Mapping[str, str]] = {"rows": ROWS, "weights": WEIGHTS}

    def files(self, parts: Sequence[Part], how: TrainedOn) -> dict[str, str]:
        """Return ``sft.yaml``."""
        n = sum(part.wanted for part in parts)
        share = {part.name: {} if self.carry == "rows" else {"fraction": part.wanted / n} for part in parts}
        last = [] if how.loss_on == "all" else [NO_LAST]
        values = {
            "model_name_or_path": self.model,
            "datasets": [{"path": "json", "data_files": part.path, "split": "train", **share[part.name]} for part in parts],
            "max_length": how.max_length,
            "packing": False,
            "assistant_only_loss": True,
            "num_train_epochs": 1,
            "train_sampling_strategy": "sequential" if self.carry == "rows" else "random",
            "seed": self.seed,
            "output_dir": "out",
        }
        return {self.main: self.text(values, *last)}

    def paths(self, values: Any) -> Sequence[str]:
        """Return the data sets' files."""
        return [entry["data_files"] for entry in values["datasets"]]

    def numbers(self, values: Any, rows: Sequence[int], *, where: Path) -> Numbers:  # noqa: ARG002
        """Replay ``get_dataset``: fractions if there are any, else one file after another."""
        entries = values["datasets"]
        if "fraction" not in entries[0]:
            return np.arange(sum(rows))
        return fraction(rows, [entry["fraction"] for entry in entries])
