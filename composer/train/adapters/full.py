"""Full fine-tuning: every parameter moves, and the result is a model of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from composer.train.adapters import Adapter


class Full(Adapter):
    """Train all parameters."""

    name: Literal["full"] = "full"

    where: ClassVar[str] = "model"
    needs_base: ClassVar[bool] = False
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "all parameters move; the result is a model of its own"

    def attach(self, model: Any, **_: Any) -> Any:
        """Return the model with every parameter set to move; ``previous`` was loaded in the base's place."""
        return model.requires_grad_(True)

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Write a plain transformers folder, tokenizer and chat template included."""
        model.save_pretrained(folder / self.where)
        tokenizer.save_pretrained(folder / self.where)
