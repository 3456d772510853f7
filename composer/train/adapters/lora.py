"""LoRA: every chosen weight ``W`` becomes ``W + (alpha / rank) B A``, and only the thin ``A`` and ``B`` move."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from composer.errors import ModelError, SpecError
from composer.spec import seed_of
from composer.train.adapters import Adapter
from composer.train.model import linear_maps, with_adapter, wrapping
from composer.train.targets import chosen


class Lora(Adapter):
    """Train low-rank updates: ``A`` (rank x in) begins random and ``B`` (out x rank) at zero, so that nothing changes at first.

    ``targets`` names modules by the end of their path (``q_proj``), or is ``all-linear`` for every linear map but the output.

    References
    ----------
    Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models (2106.09685), section 4.1.
    """

    name: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"

    where: ClassVar[str] = "adapter"
    needs_base: ClassVar[bool] = True
    reference: ClassVar[str] = "Hu et al. 2021 (2106.09685), section 4.1"
    summary: ClassVar[str] = "low-rank updates of linear maps move; the result lies on top of the base"

    def attach(self, model: Any, *, previous: Path | None, seed: int, **_: Any) -> Any:
        """Return a peft model with fresh updates that change nothing yet, or with those of the previous artifact."""
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers.pytorch_utils import Conv1D

        linear = linear_maps(model)
        places = chosen(linear, self.targets)
        if previous is not None:
            return self._same(with_adapter(model, previous / self.where, trainable=True), places)
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, task_type="CAUSAL_LM",
            target_modules=self.targets if isinstance(self.targets, str) else list(self.targets),
            fan_in_fan_out=any(isinstance(linear[name], Conv1D) for name in places),  # GPT-2 stores W transposed
        )  # fmt: skip
        with wrapping(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed_of(seed, "lora"))
            return get_peft_model(model, config)

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:  # noqa: ARG002
        """Write the updates and their settings as peft reads them.

        ``save_pretrained`` of peft would ask the Hub for the base's vocabulary, list the targets in another order every time
        and leave the base's local path in the artifact.
        """
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        (folder / self.where).mkdir(parents=True, exist_ok=True)
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        save_file(tensors, folder / self.where / "adapter_model.safetensors", metadata={"format": "pt"})
        config = copy.deepcopy(model.peft_config["default"])
        config.target_modules = sorted(config.target_modules)
        config.inference_mode = True
        if Path(config.base_model_name_or_path or "").exists():
            config.base_model_name_or_path = ""
        config.save_pretrained(folder / self.where)

    def apply(self, network: Any, folder: Path) -> Any:
        """Return the base with the updates merged into its weights."""
        return with_adapter(network, folder).merge_and_unload()

    def deltas(self, network: Any, folder: Path) -> Mapping[str, Callable[[], Any]]:
        """Return what gives the product of every pair of updates, in its scale."""
        adapted = with_adapter(network, folder)
        config = adapted.peft_config["default"]
        if config.bias != "none" or config.modules_to_save or config.use_dora:
            got = f"bias {config.bias}, modules_to_save {config.modules_to_save}, use_dora {config.use_dora}"
            raise ModelError("it cannot be merged", where=str(folder), expected="products of two thin matrices alone", got=got)
        layers = {name: module for name, module in adapted.base_model.model.named_modules() if hasattr(module, "lora_A")}
        adapted.unload()

        def product(layer: Any) -> Any:
            import torch

            with torch.no_grad():
                return layer.get_delta_weight(layer.active_adapters[0]).double()

        return {f"{name}.weight": partial(product, layer) for name, layer in layers.items()}

    def _same(self, model: Any, places: set[str]) -> Any:
        """Return the continued model if its updates have the shape and the places that this spec asks for."""
        config = model.peft_config["default"]
        has = {name.removeprefix("base_model.model.") for name, module in model.named_modules() if hasattr(module, "lora_A")}
        ours = {"rank": self.rank, "alpha": self.alpha, "dropout": self.dropout, "targets": sorted(places)}
        theirs = {"rank": config.r, "alpha": config.lora_alpha, "dropout": config.lora_dropout, "targets": sorted(has)}
        for field, value in theirs.items():
            if ours[field] != value:
                expected, got = str(value)[:200], str(ours[field])[:200]
                raise SpecError("the previous adapter has another", where=field, expected=expected, got=got)
        return model
