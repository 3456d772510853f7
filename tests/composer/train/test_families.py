"""Families of models are trained, whole and by an adapter, with tied and untied embeddings, and come back as they were left."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from composer.encode import load_tokenizer
from composer.errors import ModelError, SpecError
from composer.ingest.counting import count
from composer.train import ADAPTERS
from composer.train.model import load
from composer.types import ModelRef

Run = Callable[..., dict[str, Any]]
WIDE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": WIDE,
    "qwen2": WIDE,
    "mistral": {**WIDE, "sliding_window": 16},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0},
}


NOT_TRANSPOSED = {"osf", "shira"}  # peft has them for nn.Linear alone
OFTEN = {("llama", True), ("llama", False), ("gpt2", True), ("qwen2", False)}
CASES = [
    pytest.param(case, id=f"{case[0]}-{'tied' if case[1] else 'untied'}", marks=() if case in OFTEN else pytest.mark.slow)
    for case in product(sorted(FAMILIES), (True, False))
]


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest, base: ModelRef, tmp_path: Path) -> ModelRef:
    kind, tied = request.param
    tokenizer = load_tokenizer(base.path)
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), tie_word_embeddings=tied, **FAMILIES[kind], **special)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return ModelRef(path=str(tmp_path / "base"))


def counted(samples: pl.DataFrame, model: ModelRef) -> pl.DataFrame:
    """The samples as this model's tokenizer counts them: transformers makes one of its own for some families."""
    found = count(load_tokenizer(model.path), samples, max_length=64)
    return samples.with_columns(found["n_tokens"], found["n_loss_tokens"])


SMALL: dict[str, dict[str, Any]] = {"lota": {"calibration_steps": 2}, "shira": {"rank": 4}}
WORDS = [word for word in ADAPTERS if word not in ("loramoe", "mola")]  # these two do not become a plain model
ADAPTED = [pytest.param({"name": word, **SMALL.get(word, {})}, id=word) for word in WORDS]


BOTH = pytest.param({"name": "lora", "dora": True, "rslora": True}, id="dora-rslora", marks=pytest.mark.slow)


@pytest.mark.parametrize("adapter", [*ADAPTED, BOTH])
def test_a_family_learns_and_comes_back(model: ModelRef, adapter: Any, run: Run, samples: pl.DataFrame, tmp_path: Path) -> None:
    out, rows = tmp_path / "out", counted(samples.head(16), model)
    given: dict[str, Any] = {"model": model, "learning_rate": 3e-3, "rows": rows, "batch_size": 16, "lr_schedule": "constant"}
    if adapter["name"] in NOT_TRANSPOSED and load(model, device="cpu")[0].config.model_type == "gpt2":
        with pytest.raises(SpecError, match=rf"targets: {adapter['name']} has no such map; expected maps of torch\.nn\.Linear"):
            run(out, adapter=adapter, **given)
        return
    stats = run(out, adapter=adapter, epochs=4, **given)
    whole = not ADAPTERS[adapter["name"]].needs_base
    where = {"path": str(out / "model")} if whole else {"path": model.path, "adapter": str(out / "adapter")}
    again, before = load(ModelRef(**where), device="cpu")[0], load(model, device="cpu")[0]
    ties = [network.get_input_embeddings().weight is network.get_output_embeddings().weight for network in (again, before)]
    assert ties[0] == ties[1] == before.config.tie_word_embeddings == again.config.tie_word_embeddings
    merged = tmp_path / "merged"
    again.save_pretrained(merged)
    load_tokenizer(model.path).save_pretrained(merged)
    still = run(tmp_path / "still", **{**given, "model": ModelRef(path=str(merged)), "learning_rate": 0.0})
    assert still["loss_first"] < stats["loss_last"] < stats["loss_first"]


@pytest.mark.parametrize(
    "fields", [{"gradient_checkpointing": True}, {"attention": "eager"}], ids=lambda fields: next(iter(fields))
)
def test_how_a_pass_is_made_does_not_change_training(
    fields: Any, model: ModelRef, run: Run, samples: pl.DataFrame, tmp_path: Path
) -> None:
    given = {"model": model, "rows": counted(samples, model)}
    plain, other = (run(tmp_path / name, **given, **own) for name, own in (("plain", {}), ("other", fields)))
    assert other["loss_last"] == pytest.approx(plain["loss_last"], abs=1e-5)
    weights = [load_file(next((tmp_path / name / "model").glob("*.safetensors"))) for name in ("plain", "other")]
    assert max(float((value - weights[1][name]).abs().max()) for name, value in weights[0].items()) < 1e-4


def test_an_attention_that_is_not_there_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"leave train\.attention flash_attention_9 out"):
        run(tmp_path, attention="flash_attention_9")
