"""What LoRAMoE refuses, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from composer.errors import ModelError, SpecError
from composer.progress import listener
from composer.train.adapters.lora import Lora
from composer.train.adapters.loramoe import LoraMoe
from composer.train.model import load, with_adapter
from composer.types import ModelRef
from tests.heard import Heard

Make = Callable[..., Any]
DOMAINS = ("law", "code")
MOE = {"name": "loramoe", "n_experts": 4, "rank": 2, "knowledge": ["law"]}


def test_who_cannot_use_it_says_so(trained: Path, base: ModelRef) -> None:
    from probes.engines.vllm_child.adapter import describe

    with pytest.raises(ModelError, match="vLLM knows no adapter of the method loramoe; use the engine hf"):
        describe(trained / "adapter")
    with pytest.raises(ModelError, match=r"no adapter in the folder.*of the method loramoe, which peft does not know"):
        with_adapter(load(base, device="cpu")[0], trained / "adapter")


def test_experts_that_were_cut_or_are_of_another_model_are_refused(
    trained: Path, base: ModelRef, tmp_path: Path, network: Make
) -> None:
    import shutil

    shutil.copytree(trained / "adapter", tmp_path / "adapter")
    ref, weights = ModelRef(path=base.path, adapter=str(tmp_path / "adapter")), tmp_path / "adapter/experts.safetensors"
    with pytest.raises(ModelError, match=r"experts of another model.*got for model.layers.0.mlp.gate_proj"):
        LoraMoe(**MOE).apply(network("gpt2"), tmp_path / "adapter")
    with pytest.raises(
        ModelError, match=r"experts of another model; expected model.layers.0.mlp.down_proj.A of shape \(8, 48\)"
    ):
        LoraMoe(**MOE).apply(network("llama"), tmp_path / "adapter")
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ModelError, match="experts that cannot be read"):
        load(ref, device="cpu")
    weights.unlink()
    with pytest.raises(ModelError, match=r"no experts in the folder; expected experts.safetensors.*loramoe leaves them"):
        load(ref, device="cpu")
    (tmp_path / "adapter/experts.json").write_text("{")
    weights.touch()
    with pytest.raises(ModelError, match="broken settings of experts"):
        load(ref, device="cpu")


@pytest.mark.parametrize(("fields", "told"), [
    ({"n_experts": 5}, "n_experts: no halves, of which one is each type; expected even; got 5; give expert_types"),
    ({"n_experts": 1}, "beta: one expert cannot be balanced; expected 0; got 0.1"),
    ({"n_experts": 2, "expert_types": ["task"]}, "expert_types: another number of types than of experts; expected 2; got 1"),
    ({"n_experts": 2, "expert_types": ["task"] * 2}, "expert_types: experts of one type; expected knowledge and task"),
    ({"delta": 1.0}, "delta: input should be less than 1"),
    ({"betta": 1.0}, "betta: unknown field of LoraMoe; did you mean 'beta'"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        LoraMoe(**fields)


def test_odd_numbers_and_one_expert_have_a_way_out() -> None:
    assert LoraMoe(n_experts=3, expert_types=("knowledge", "task", "task")).types == [True, False, False]
    assert LoraMoe(n_experts=1, beta=0).types == [False]
    assert LoraMoe(n_experts=6).types == [True] * 3 + [False] * 3


@pytest.mark.parametrize(("fields", "told"), [
    ({"knowledge": ("lwa",)}, "knowledge: no such domain; got lwa; did you mean 'law'"),
    ({"targets": ("mlp.up_prj",)}, "targets: no such module.*down_proj.*got mlp.up_prj.*targets may be auto"),
    ({"rank": 33}, "rank: a rank above that of model.layers.0.mlp.gate_proj; expected at most 32; got 33"),
])  # fmt: skip
def test_settings_that_do_not_fit_the_model_are_refused(fields: dict[str, Any], told: str, network: Make) -> None:
    with pytest.raises(SpecError, match=told):
        LoraMoe(**fields).attach(network("llama"), previous=None, seed=1, domains=DOMAINS)


def test_a_family_that_is_not_known_needs_targets() -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    wide = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=80, **wide))
    with pytest.raises(SpecError, match=r"unknown family.*got gpt_neox; name the maps.*dense_4h_to_h, dense_h_to_4h"):
        LoraMoe().attach(model, previous=None, seed=1)
    named = LoraMoe(targets=("dense_h_to_4h",)).attach(model, previous=None, seed=1)
    assert named.experts.maps == ("gpt_neox.layers.0.mlp.dense_h_to_4h",)


@pytest.mark.parametrize(("fields", "field"), [
    ({"rank": 3}, "rank"), ({"n_experts": 2}, "n_experts"), ({"alpha": 8}, "alpha"), ({"dropout": 0.5}, "dropout"),
    ({"targets": ("up_proj",)}, "targets"), ({"expert_types": ("task", "knowledge") * 2}, "expert_types"),
])  # fmt: skip
def test_it_does_not_go_on_from_another(fields: dict[str, Any], field: str, trained: Path, base: ModelRef) -> None:
    with pytest.raises(SpecError, match=f"{field}: the previous adapter has another"):
        LoraMoe(**{**MOE, **fields}).attach(load(base, device="cpu")[0], previous=trained, seed=1)


def test_it_does_not_go_on_from_lora(base: ModelRef, tmp_path: Path) -> None:
    Lora().save(Lora().attach(load(base, device="cpu")[0], previous=None, seed=1), None, tmp_path)
    with pytest.raises(ModelError, match=r"no experts in the folder; expected experts\.json"):
        LoraMoe().attach(load(base, device="cpu")[0], previous=tmp_path, seed=1)


def test_a_training_on_some_of_the_domains_names_only_those() -> None:
    adapter = LoraMoe(knowledge=("law", "history"))
    adapter.check(("law", "history", "code"))
    assert adapter.among(("code", "law")).knowledge == ("law",)


def test_domains_of_one_type_are_said(network: Make) -> None:
    token = listener.set(heard := Heard())
    try:
        for knowledge in ((), ("law",)):
            LoraMoe(knowledge=knowledge).attach(network("llama"), previous=None, seed=1, domains=DOMAINS)
    finally:
        listener.reset(token)
    assert [line[:34] for line in heard.lines] == ["all domains are of one type: adapt"]
