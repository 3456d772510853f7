"""A base model from a folder or the Hub, ready to be trained; whatever is wrong with it is said before a library says it.

Weights are read from safetensors only and no code that comes with a model is ever run.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from composer.encode import load_tokenizer
from composer.errors import ModelError
from composer.types import ModelRef

WHERE = "base_model.path"


def load(model: ModelRef, *, device: str, exact: bool = False, attention: str | None = None) -> tuple[Any, Any]:
    """Return a causal language model and its tokenizer: float32 on a CPU, bfloat16 on a GPU.

    ``exact`` keeps float32 on a GPU too, for weights that are to move: most steps of AdamW are smaller than the last bit of a
    bfloat16. An adapter that the reference names is merged into the weights. ``attention`` names the implementation.

    Raises
    ------
    ModelError
        Where the path does not exist, holds no model, or holds one that cannot be used here.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    check(model.path)
    dtype = torch.float32 if exact or device == "cpu" else torch.bfloat16
    own = {} if attention is None else {"attn_implementation": attention}
    try:
        network = AutoModelForCausalLM.from_pretrained(
            model.path, dtype=dtype, use_safetensors=True, trust_remote_code=False, **own
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        hint = "give a folder with config.json and safetensors, or a Hub id that can be reached"
        if attention is not None:
            hint += f"; or leave train.attention {attention} out"
        raise ModelError(f"no model: {_first_line(error)}", where=WHERE, got=model.path, hint=hint) from None
    tokenizer = load_tokenizer(model.path, chat_template=model.chat_template)
    if model.adapter is not None:
        network = with_adapter(network, Path(model.adapter)).merge_and_unload()
    return network.to(device), tokenizer


def check(path: str) -> None:
    """Refuse a path that can only be local and holds no model, before a library looks for it on the Hub.

    A bare word and ``org/name`` may be Hub ids and pass.

    Raises
    ------
    ModelError
        Where there is no such folder, or no config.json in it.
    """
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError("no model in the folder", where=WHERE, expected="config.json and safetensors", got=path)
    elif folder.exists():
        raise ModelError("a file, not a model folder", where=WHERE, expected="a folder with config.json", got=path)
    elif path.startswith(("/", ".", "~")) or path.count("/") > 1:
        raise ModelError("no such folder", where=WHERE, expected="a model folder or a Hub id org/name", got=path)


def with_adapter(network: Any, folder: Path, *, trainable: bool = False) -> Any:
    """Return the model with the peft adapter of a folder on top of it.

    Raises
    ------
    ModelError
        Where the folder holds no adapter, or one of another model.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (folder / "adapter_config.json").is_file():
        hint = "full fine-tuning leaves a model/, lora an adapter/"
        raise ModelError("no adapter in the folder", expected="adapter_config.json", got=str(folder), hint=hint)
    try:
        with wrapping():
            return PeftModel.from_pretrained(network, str(folder), is_trainable=trainable)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelError(f"the adapter does not fit the model: {_first_line(error)}", got=str(folder)) from None


def linear_maps(network: Any) -> dict[str, Any]:
    """Return the linear maps of a model by path, without its output layer."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    last = network.get_output_embeddings()
    return {name: map_ for name, map_ in network.named_modules() if isinstance(map_, nn.Linear | Conv1D) and map_ is not last}


@contextmanager
def wrapping() -> Iterator[None]:
    """Let peft wrap a model without the warning of transformers that peft calls one of its properties by an old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
