"""LoRA: every chosen weight ``W`` becomes ``W + s B A``, and only the thin ``A`` and ``B`` move, of DoRA its norms too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from composer.train.adapters.wrapped import AT, Wrapped, named_for_peft

if TYPE_CHECKING:
    from torch import Tensor


class Lora(Wrapped):
    """Train low-rank updates: ``A`` (rank x in) begins random and ``B`` (out x rank) at zero, so that nothing changes at first.

    The scale ``s`` is ``alpha / rank``, or with ``rslora`` ``alpha / sqrt(rank)``, which keeps the size of updates as the rank
    grows. With ``dora`` a weight becomes ``m (W + s B A) / ||W + s B A||``, with a norm and a learned ``m`` for each output
    (section 4.1; the norm gets no gradient, section 4.3); ``m`` begins at the norms of ``W``. Both can be set.

    ``targets`` names modules by the end of their path (``q_proj``), or is ``all-linear`` for every linear map but the output.

    References
    ----------
    Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models (2106.09685), section 4.1.
    Liu et al. 2024, DoRA: Weight-Decomposed Low-Rank Adaptation (2402.09353), section 4.
    Kalajdzievski 2023, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA (2312.03732), section 3.
    """

    name: Literal["lora"] = "lora"
    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    dora: bool = False
    rslora: bool = False

    reference: ClassVar[str] = "Hu et al. 2021 (2106.09685), section 4.1; DoRA 2402.09353; rsLoRA 2312.03732"
    summary: ClassVar[str] = "low-rank updates of linear maps move, as LoRA, DoRA or rsLoRA; the result lies on top of the base"

    def config(self, maps: Mapping[str, Any], *, seed: int) -> Any:  # noqa: ARG002
        """Return the settings as peft takes them."""
        from peft import LoraConfig
        from transformers.pytorch_utils import Conv1D

        return LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, use_dora=self.dora, use_rslora=self.rslora,
            task_type="CAUSAL_LM", target_modules=named_for_peft(self.targets),
            fan_in_fan_out=any(isinstance(each, Conv1D) for each in maps.values()),  # GPT-2 stores W transposed
        )  # fmt: skip

    def settings(self, config: Any) -> dict[str, Any]:
        """Return by our fields what a config of peft says of them."""
        shape = {"rank": config.r, "alpha": config.lora_alpha, "dropout": config.lora_dropout}
        return shape | {"dora": config.use_dora, "rslora": config.use_rslora}

    def delta(self, layer: Any) -> Tensor:
        """Return the product of a pair of updates in its scale; of DoRA how far the weight itself is moved."""
        import torch

        with torch.no_grad():
            product: Tensor = layer.get_delta_weight(AT).double()
            if AT not in layer.lora_magnitude_vector:
                return product
            weight = layer.get_base_layer().weight.double()
            inputs = 0 if layer.fan_in_fan_out else 1
            raised = weight + product
            scale = layer.lora_magnitude_vector[AT].weight.double().unsqueeze(inputs) / raised.norm(dim=inputs, keepdim=True)
            moved: Tensor = raised * scale - weight
        return moved
