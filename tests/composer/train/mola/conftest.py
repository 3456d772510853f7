"""Tiny networks of three families and LoRAs for them that peft made, with updates that matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from composer.train.adapters.lora import Lora
from composer.train.adapters.mola import Mola

WIDE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": WIDE,
    "qwen2": WIDE,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0},
}
NAMES = ("law", "medicine", "code")
EXPERT = Lora(rank=4, alpha=8)


def network(kind: str) -> Any:
    config = AutoConfig.for_model(kind, vocab_size=100, bos_token_id=2, eos_token_id=3, pad_token_id=0, **FAMILIES[kind])
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Path]]:
    """Return the folders of LoRAs for a family, by name; with ``filled`` false their B is zero."""
    made: dict[Any, dict[str, Path]] = {}

    def folders(kind: str, *, expert: Lora = EXPERT, names: tuple[str, ...] = NAMES, filled: bool = True) -> dict[str, Path]:
        key = kind, expert.model_dump_json(), names, filled
        if key not in made:
            made[key] = {name: _written(kind, expert, i, tmp_path_factory.mktemp(name), filled) for i, name in enumerate(names)}
        return made[key]

    return folders


def _written(kind: str, expert: Lora, seed: int, folder: Path, filled: bool) -> Path:
    model = expert.attach(network(kind), previous=None, seed=seed)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if filled and "lora_B" in name:
                parameter.normal_(std=0.3)
    expert.save(model, None, folder)
    return folder / "adapter"


@pytest.fixture(params=sorted(FAMILIES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def make() -> Callable[[str], Any]:
    return network


@pytest.fixture(scope="session")
def mixed(folders: Callable[..., dict[str, Path]]) -> Callable[..., Any]:
    """Return a network with a mixture whose routers say something at random, but for those of ``weight``."""

    def mixed(kind: str, *, names: tuple[str, ...] = NAMES, weight: float = 1.0, **fields: Any) -> tuple[Any, Mola]:
        adapter = Mola(expert=EXPERT, **fields)
        given = {f"experts/{name}": folder for name, folder in folders(kind, names=NAMES).items() if name in names}
        model = adapter.attach(network(kind), previous=None, seed=0, domains=names, given=given)
        if model.mixture.routers is not None:
            torch.nn.init.normal_(model.mixture.routers.weight, std=weight, generator=torch.Generator().manual_seed(7))
        return model, adapter

    return mixed
