"""Small random models of several families, and a training with experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
