"""LLaMA-Factory: ``llamafactory-cli train sft.yaml``, whose ``interleave_probs`` are chances of every draw."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from composer.errors import InputError
from composer.export.base import TrainedOn, config
from composer.export.rules import Numbers
from composer.export.rules.interleave import Stopping, interleaved
from composer.export.trainer import Part, Trainer, document

TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system",
    "observation_tag": "tool", "function_tag": "function",
}  # fmt: skip

STOPPING: Mapping[str, Stopping] = {
    "interleave_under": "first_exhausted", "interleave_over": "all_exhausted",
    "interleave_once": "all_exhausted_without_replacement",
}  # fmt: skip

ROWS = """The mix as it was composed: one data set, read once and in order (disable_shuffling).
llamafactory-cli train sft.yaml model_name_or_path=MODEL"""

WEIGHTS = """One file per domain, every row once. interleave_probs is the chance that a draw takes the domain, in rows, and
interleave_over goes on until every row was drawn, files that are empty before then begin anew. Shares hold on average.
llamafactory-cli train sft.yaml model_name_or_path=MODEL"""


class LlamaFactory(Trainer):
    """Write ``llama_factory/sft.yaml``, ``dataset_info.json`` and the rows.

    With ``hub`` (``org/name``) the entries point to that repository, where the folder is uploaded as it is, and the config
    reads ``dataset_info.json`` from there (``REMOTE:org/name``).
    """

    name: Literal["llama_factory"] = "llama_factory"
    summary: ClassVar[str] = "LLaMA-Factory: rows in order, or `interleave_probs`; `dataset_info.json`, here or on the Hub"
    reference: ClassVar[str] = "LLaMA-Factory 0.9.5, `data/README.md`"
    home: ClassVar[str] = "llama_factory"
    said: ClassVar[Mapping[str, str]] = {"rows": ROWS, "weights": WEIGHTS}
    hub: str | None = None

    def files(self, parts: Sequence[Part], how: TrainedOn) -> dict[str, str]:
        """Return ``sft.yaml`` and ``dataset_info.json``, and for the Hub a card that names the files."""
        n = sum(part.wanted for part in parts)
        mixed = {
            "mix_strategy": "interleave_over", "interleave_probs": ",".join(repr(part.wanted / n) for part in parts),
        }  # fmt: skip
        values = {
            "model_name_or_path": self.model,
            "stage": "sft",
            "do_train": True,
            "dataset_dir": f"REMOTE:{self.hub}" if self.hub else ".",
            "dataset": ",".join(part.name for part in parts),
            **(mixed if len(parts) > 1 else {}),
            "cutoff_len": how.max_length,
            "mask_history": how.loss_on == "last",
            "packing": False,
            "num_train_epochs": 1,
            "disable_shuffling": self.carry == "rows",
            "seed": self.seed,
            "output_dir": "out",
        }
        info = json.dumps({part.name: self._entry(part) for part in parts}, indent=2) + "\n"
        card = f"---\n{document('', {'configs': [config(part.name, part.path) for part in parts]})}---\n"
        texts = {self.main: self.text(values), "dataset_info.json": info}
        return texts | ({"README.md": card} if self.hub else {})

    def _entry(self, part: Part) -> dict[str, Any]:
        there = {"hf_hub_url": self.hub, "subset": part.name, "split": "train"} if self.hub else {"file_name": part.path}
        return {**there, "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": TAGS}

    def paths(self, values: Any) -> Sequence[str]:
        """Return the files of the data sets."""
        return [self.path(name.strip()) for name in values["dataset"].split(",")]

    def numbers(self, values: Any, rows: Sequence[int], *, where: Path) -> Numbers:
        """Replay ``merge_dataset``: the data sets one after another, or interleaved.

        Raises
        ------
        InputError
            Where probabilities stand beside ``concat``, or the strategy is none of LLaMA-Factory's.
        """
        strategy, probabilities = values.get("mix_strategy", "concat"), values.get("interleave_probs")
        if strategy != "concat" and strategy not in STOPPING:
            expected = ", ".join(("concat", *STOPPING))
            raise InputError("unknown mix_strategy", where=str(where), got=strategy, expected=expected)
        if strategy == "concat" and probabilities:
            raise InputError("interleave_probs needs another mix_strategy than concat", where=str(where))
        if strategy == "concat":
            return np.arange(sum(rows))
        chances = [float(p) for p in str(probabilities).split(",")]
        return interleaved(np.arange(sum(rows)), rows, chances, seed=values.get("seed", 42), stop=STOPPING[strategy])
