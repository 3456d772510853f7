"""Small random models of several families, a training with experts, and LoRAs with mixtures of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from composer.train import Train, train
from composer.types import ModelRef

MOE = {"name": "loramoe", "n_experts": 4, "rank": 2, "knowledge": ["law"]}
FAST = {"adapter": MOE, "learning_rate": 1e-2}
WIDE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": WIDE,
    "qwen2": WIDE,
    "mistral": WIDE,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def network() -> Callable[..., Any]:
    """A small random model of a family."""

    def make(kind: str) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            config = AutoConfig.for_model(kind, vocab_size=80, **FAMILIES[kind])
            return AutoModelForCausalLM.from_config(config).eval()

    return make


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory, samples: pl.DataFrame, composed: Any, base: ModelRef) -> Path:
    """What a short training with experts left."""
    folder = tmp_path_factory.mktemp("trained")
    spec = Train(**FAST, batch_size=8, threads=1, device="cpu")
    train(composed(samples.head(32)), samples, model=base, start=None, spec=spec, max_length=64, seed=7, folder=folder)
    return folder


EXPERT = {"rank": 4, "alpha": 8, "targets": ("q_proj", "up_proj", "down_proj")}
MOLA = {"name": "mola", "expert": EXPERT}


@pytest.fixture(scope="session")
def loras(
    tmp_path_factory: pytest.TempPathFactory, samples: pl.DataFrame, composed: Callable[..., pl.DataFrame], base: ModelRef
) -> Mapping[str, Path]:
    """A LoRA trained on each domain alone."""
    folder = tmp_path_factory.mktemp("experts")
    spec = Train(adapter={"name": "lora", **EXPERT}, learning_rate=1e-2, epochs=2, batch_size=8, threads=1, device="cpu")
    for domain in ("law", "code", "third"):
        rows = composed(samples.filter(pl.col("domain") == ("law" if domain == "third" else domain)))
        train(rows, samples, model=base, start=None, spec=spec, max_length=64, seed=7, folder=folder / domain)
    return {f"experts/{domain}": folder / domain for domain in ("law", "code", "third")}


@pytest.fixture
def mix(
    samples: pl.DataFrame, composed: Callable[..., pl.DataFrame], base: ModelRef, loras: Mapping[str, Path]
) -> Callable[..., dict[str, Any]]:
    def mix(
        folder: Path, *, names: tuple[str, ...] = ("law", "code"), rows: pl.DataFrame = samples, start: Path | None = None,
        adapter: Mapping[str, Any] = {}, **fields: Any,
    ) -> dict[str, Any]:  # fmt: skip
        spec = Train(**{"batch_size": 8, "threads": 1, "device": "cpu", "adapter": {**MOLA, **adapter}, **fields})
        own = {f"experts/{name}": loras[f"experts/{name}"] for name in names}
        return train(
            composed(rows), samples, model=base, start=start, spec=spec, max_length=64, seed=7, folder=folder, given=own
        )

    return mix
