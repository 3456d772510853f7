"""A base model from a folder or the Hub, ready to be trained; whatever is wrong with it is said before a library says it.

Weights are read from safetensors only and no code that comes with a model is ever run.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from composer.encode import load_tokenizer
from composer.errors import ModelError
from composer.fingerprint import write_json
from composer.manifest import is_inside
from composer.types import ModelRef

WHERE = "base_model.path"
DESCRIBED = "adapter.json"
SAMPLED = 256  # entries of a weight that tell its model from another


def load(model: ModelRef, *, device: str, exact: bool = False, attention: str | None = None) -> tuple[Any, Any]:
    """Return a causal language model and its tokenizer: float32 on a CPU, bfloat16 on a GPU.

    ``exact`` keeps float32 on a GPU too, for weights that are to move: most steps of AdamW are smaller than the last bit of a
    bfloat16. An adapter that the reference names is put on top; one of peft is merged into the weights. ``attention`` names the
    implementation.

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
        raise ModelError(f"no model: {_line(error)}", where=WHERE, got=model.path, hint=hint) from None
    tokenizer = load_tokenizer(model.path, chat_template=model.chat_template)
    if model.adapter is not None:
        network = applied(network, Path(model.adapter))
    return network.to(device), tokenizer


def fingerprint(network: Any) -> str:
    """Return what tells a base from another: a hash of the names, shapes and some entries of its weights, in any precision."""
    import torch

    found = hashlib.sha256()
    for name, value in network.named_parameters():
        flat = value.detach().reshape(-1)
        places = torch.linspace(0, len(flat) - 1, min(len(flat), SAMPLED), dtype=torch.float64).long()
        entries = flat[places.to(flat.device)].to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes()
        found.update(f"{name} {tuple(value.shape)} ".encode() + entries)
    return found.hexdigest()[:16]


def describe(folder: Path, adapter: Any, base: str) -> None:
    """Write beside an adapter's weights what it is: the method with its settings, and its base's fingerprint."""
    write_json(folder / DESCRIBED, {"adapter": adapter, "base": base})


def applied(network: Any, folder: Path) -> Any:
    """Return a base with the adapter of a folder on top of it; without our description it is one of peft."""
    return adapter_of(network, folder).apply(network, folder)


def adapter_of(network: Any, folder: Path) -> Any:
    """Return the settings of the adapter of a folder, which was made on this base where that is known.

    Raises
    ------
    ModelError
        For a description that cannot be read, or another base.
    """
    from composer.spec import member
    from composer.train.adapters import ADAPTERS

    told: dict[str, Any] = {"adapter": {"name": _word(folder)}, "base": None}
    if (folder / DESCRIBED).is_file():
        told = _described(folder)
    check_base(network, folder, told["base"])
    return member(told["adapter"], ADAPTERS, kind="adapter")


def _word(folder: Path) -> str:
    """Return the method of a folder that peft wrote; any that we have no word for is merged as lora is."""
    from composer.train.adapters import ADAPTERS

    file = folder / "adapter_config.json"
    try:
        word = str(json.loads(file.read_text(encoding="utf-8"))["peft_type"]).lower() if file.is_file() else ""
    except (KeyError, ValueError, TypeError):
        word = ""  # peft will say what is wrong with it
    return word if word in ADAPTERS and ADAPTERS[word].needs_base else "lora"


def _described(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / DESCRIBED).read_text(encoding="utf-8")))
    except ValueError as error:
        raise ModelError(f"a broken description: {error}", where=str(folder / DESCRIBED), hint="train it again") from None


def check_base(network: Any, folder: Path, base: str | None) -> None:
    """Refuse a base that is not the one an adapter was made on, where that is known.

    Raises
    ------
    ModelError
        For another base.
    """
    if base is not None and base != (found := fingerprint(network)):
        hint = "load the base that it was trained on"
        raise ModelError(
            "an adapter of another base", where=str(folder), expected=f"base {base}", got=f"base {found}", hint=hint
        )


def check(path: str) -> None:
    """Refuse a path that can only be local and holds no model, before a library looks for it on the Hub.

    A bare word and ``org/name`` may be Hub ids and pass.

    Raises
    ------
    ModelError
        Where there is no such folder, no config.json in it, or an index of weights that lie outside it.
    """
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError("no model in the folder", where=WHERE, expected="config.json and safetensors", got=path)
        _check_shards(folder)
    elif folder.exists():
        raise ModelError("a file, not a model folder", where=WHERE, expected="a folder with config.json", got=path)
    elif path.startswith(("/", ".", "~")) or path.count("/") > 1:
        raise ModelError("no such folder", where=WHERE, expected="a model folder or a Hub id org/name", got=path)


def _check_shards(folder: Path) -> None:
    """Refuse an index that would have weights read from elsewhere; one that is none is told of when it is used."""
    for index in folder.glob("*.index.json"):
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            for name in map(str, json.loads(index.read_bytes())["weight_map"].values()):
                if not is_inside(name):
                    raise ModelError("weights outside the model's folder", where=WHERE, got=name, hint=f"see {index.name}")


def with_adapter(network: Any, folder: Path, *, trainable: bool = False) -> Any:
    """Return the model with the peft adapter of a folder on top of it.

    Raises
    ------
    ModelError
        Where the folder holds no adapter, or one of another model.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            hint = "full fine-tuning leaves a model/, lora an adapter/"
            if (folder / DESCRIBED).is_file():
                hint = f"it is of the method {_described(folder)['adapter']['name']}, which peft does not know"
            raise ModelError("no adapter in the folder", expected=name, got=str(folder), hint=hint)
    try:
        with wrapping():
            # peft only warns where an adapter does not fill the model, which would then be as if untrained
            warnings.filterwarnings("error", message=".*[Mm]issing adapter keys")
            return PeftModel.from_pretrained(network, str(folder), is_trainable=trainable)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, UserWarning, SafetensorError) as error:
        raise ModelError(f"the adapter does not fit the model: {_line(error)}", got=str(folder)) from None


def linear_maps(network: Any) -> dict[str, Any]:
    """Return the linear maps of a model by path, without its output layer."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    last = network.get_output_embeddings()
    return {name: map_ for name, map_ in network.named_modules() if isinstance(map_, nn.Linear | Conv1D) and map_ is not last}


@contextmanager
def wrapping() -> Iterator[None]:
    """Let peft wrap a model without the warning of transformers that peft calls one of its properties by an old name.

    Sparse tensors of its layers are not checked from now on unless they were: that is torch's choice too, but unsaid it warns.
    """
    import torch

    checks: Any = torch.sparse.check_sparse_tensor_invariants
    if not checks.is_enabled():
        checks.disable()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def _line(error: Exception) -> str:
    """Return the beginning of a message in one line; some of torch say what is wrong in their second."""
    return " ".join(str(error).split())[:200] or type(error).__name__
