"""open-instruct: ``python open_instruct/finetune.py sft.yaml``, where 0.5 is half of a file and 5 are five of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from composer.export.base import TrainedOn
from composer.export.rules import Numbers
from composer.export.rules.resize import resize
from composer.export.trainer import Part, Trainer

SEED = 42
"""The seed by which it chooses the rows of a part of a file, whatever the run's seed is."""

ROWS = """The mix as it was composed, each row once ("1.0" is all of it, "1" would be one row). The trainer shuffles it.
python open_instruct/finetune.py sft.yaml"""

WEIGHTS = """One file per domain, every row once. A whole number is so many rows: whole passes, and the rest by chance. With a
point it is a part of the file: "1.0" is all of it, "1" one row.
python open_instruct/finetune.py sft.yaml"""


class OpenInstruct(Trainer):
    """Write ``open_instruct/sft.yaml`` and the rows it reads; it shuffles, so it gets one phase at a time."""

    name: Literal["open_instruct"] = "open_instruct"
    summary: ClassVar[str] = "open-instruct: rows, or a number of rows of every domain in `dataset_mixer_list`"
    reference: ClassVar[str] = "open-instruct, `dataset_transformation.py`"
    home: ClassVar[str] = "open_instruct"
    said: ClassVar[Mapping[str, str]] = {"rows": ROWS, "weights": WEIGHTS}
    keeps_order: ClassVar[bool] = False

    def files(self, parts: Sequence[Part], how: TrainedOn) -> dict[str, str]:
        """Return ``sft.yaml``."""
        cut = "sft_tulu_tokenize_and_truncate_v1" if how.loss_on == "all" else "last_turn_tulu_tokenize_and_truncate_v1"
        counts = [[part.path, "1.0" if self.carry == "rows" else str(part.wanted)] for part in parts]
        values = {
            "model_name_or_path": self.model,
            "dataset_mixer_list": [word for pair in counts for word in pair],
            "dataset_mixer_list_splits": ["train"],
            "dataset_transform_fn": [cut, "sft_tulu_filter_v1"],
            "max_seq_length": how.max_length,
            "num_train_epochs": 1,
            "seed": self.seed,
            "push_to_hub": False,
            "try_launch_beaker_eval_jobs": False,
            "output_dir": "out",
        }
        return {self.main: self.text(values)}

    def paths(self, values: Any) -> Sequence[str]:
        """Return every other word."""
        return list(values["dataset_mixer_list"][::2])

    def numbers(self, values: Any, rows: Sequence[int], *, where: Path) -> Numbers:  # noqa: ARG002
        """Replay the mixer before the run's shuffle: a number with a point is a part of the file, another a count of rows."""
        amounts = zip(map(str, values["dataset_mixer_list"][1::2]), rows, strict=True)
        wanted = [int(float(word) * size) if "." in word else int(word) for word, size in amounts]
        return resize(rows, wanted, states=[np.random.RandomState(SEED) for _ in rows])
