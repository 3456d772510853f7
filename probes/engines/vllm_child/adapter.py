"""What vLLM must be told of a peft adapter before it loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from composer.errors import ModelError

MIXTURE = "mola.json"
"""What lies in the folder of a mixture of LoRAs: it names the folders in ``experts``, in the order of their numbers."""


def describe_bank(folder: Path) -> dict[str, Any]:
    """Return of a mixture of LoRAs the paths of its experts, and of all of them what :func:`describe` says of one.

    Raises
    ------
    ModelError
        Where the mixture is broken, or an expert of it is.
    """
    try:
        names = json.loads((folder / MIXTURE).read_text(encoding="utf-8"))["experts"]
        told = [describe(folder / "experts" / name) for name in names]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"no mixture of LoRAs: {type(error).__name__} {error}", where=str(folder)) from None
    modules = sorted({module for each in told for module in each["modules"]})
    return {"paths": [each["path"] for each in told], "rank": max(each["rank"] for each in told), "modules": modules}


def describe(folder: Path) -> dict[str, Any]:
    """Return the adapter's path, its largest rank and the names of the modules that it changes.

    vLLM makes room for adapters in the named modules only. With room in ``lm_head`` it cannot score several sequences at once
    (0.32 on a CPU: the sampler's indices are used for all tokens), so that one is refused.

    Raises
    ------
    ModelError
        Where the folder holds no LoRA, a DoRA, or one on ``lm_head``.
    """
    from safetensors import SafetensorError, safe_open

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            _refuse_ours(folder)
            raise ModelError(f"no adapter: there is no {name}", where=str(folder), expected="a folder written by peft")
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        _refuse_others(folder, config)
        rank = max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
        with safe_open(folder / "adapter_model.safetensors", framework="numpy") as weights:
            modules = sorted({key.partition(".lora_")[0].rpartition(".")[2] for key in weights.keys()})  # noqa: SIM118
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelError(f"no LoRA adapter: {type(error).__name__} {error}", where=str(folder)) from None
    if "lm_head" in modules:
        hint = "use the engine hf, or merge the adapter into the model"
        raise ModelError("vLLM does not score with an adapter on lm_head", where=str(folder), hint=hint)
    return {"path": str(folder), "rank": rank, "modules": modules}


def _refuse_others(folder: Path, config: Any) -> None:
    """Say of an adapter of peft that vLLM (0.32) does not serve which method it is of."""
    if not isinstance(config, dict):
        return
    method = "dora" if config.get("use_dora") else str(config.get("peft_type", "lora")).lower()
    if method != "lora":
        hint = "put it into its base (sft-composer merge) and serve that, or use the engine hf"
        raise ModelError(f"vLLM serves no adapter of the method {method}", where=str(folder), hint=hint)


def _refuse_ours(folder: Path) -> None:
    """Say of an adapter that only our code can use which method it is of."""
    described = folder / "adapter.json"
    if described.is_file():
        method = json.loads(described.read_text(encoding="utf-8"))["adapter"]["name"]
        hint = "use the engine hf" + ("; or put it into its base: sft-composer merge" if method == "lota" else "")
        raise ModelError(f"vLLM knows no adapter of the method {method}", where=str(folder), hint=hint)
