"""The battery of every adapter, on a Llama, a Qwen and a GPT-2 (whose linear maps are stored transposed)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from composer.encode import load_tokenizer
from composer.errors import ModelError, SpecError
from composer.train import ADAPTERS, Adapter
from composer.train.adapters.lora import Lora
from composer.train.adapters.shira import Shira
from composer.train.model import describe, fingerprint, load
from composer.train.sparse.mask import extract_mask, maskable
from composer.types import ModelRef

IDS = torch.arange(5, 69).reshape(4, 16)
DOMAINS = ("law", "code")
BATCH = {"input_ids": IDS, "labels": IDS, "attention_mask": torch.ones_like(IDS), "domain": torch.tensor([0, 1, 1, 0])}
Attached = Callable[..., Any]


MEMBERS: dict[str, Adapter] = {
    **{word: member() for word, member in ADAPTERS.items()},
    "lora-dora": Lora(dora=True),
    "lora-rslora": Lora(rslora=True, alpha=8),
    "lora-dora-rslora": Lora(dora=True, rslora=True, alpha=8),
}
NOT_TRANSPOSED = {"osf", "shira"}  # peft has them for nn.Linear alone
ROUNDED = {"osf"}  # its factors are made of a decomposition, anew from what it leaves
FAMILIES = ("llama", "gpt2", "qwen2")
OFTEN = {
    ("lora-dora", "gpt2"),
    ("osf", "qwen2"),
    ("shira", "qwen2"),
    *((word, kind) for word in ADAPTERS for kind in FAMILIES[:2]),
}
CASES = [
    pytest.param((word, kind), id=f"{word}-{kind}", marks=() if (word, kind) in OFTEN else pytest.mark.slow)
    for word in sorted(MEMBERS)
    for kind in FAMILIES
    if kind != "gpt2" or word not in NOT_TRANSPOSED
]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    word, kind = request.param
    return word, kind


@pytest.fixture
def adapter(case: tuple[str, str]) -> Adapter:
    return MEMBERS[case[0]]


@pytest.fixture
def origin(case: tuple[str, str], base: ModelRef, gpt2: ModelRef, qwen2: ModelRef) -> ModelRef:
    return {"llama": base, "gpt2": gpt2, "qwen2": qwen2}[case[1]]


@pytest.fixture(scope="session")
def qwen2(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A Qwen whose heads share keys, so that maps have three shapes."""
    tokenizer, folder = load_tokenizer(base.path), tmp_path_factory.mktemp("qwen2")
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model("qwen2", vocab_size=len(tokenizer), num_key_value_heads=2, **sizes)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelRef(path=str(folder))


def agree(one: torch.Tensor, two: torch.Tensor, adapter: Adapter) -> None:
    """Demand the same bits, or of what is made by a decomposition the same to within rounding."""
    torch.testing.assert_close(one, two, rtol=0, atol=2e-5 if adapter.name in ROUNDED else 0)


@pytest.fixture
def given(adapter: Adapter, origin: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """What the adapter needs to be made before, of what changes nothing yet."""
    folder = tmp_path_factory.mktemp("given")
    if "mask" in adapter.needs:  # by the size of the weights
        extract_mask(maskable(load(origin, device="cpu")[0]), 0.7).save(folder / "mask.safetensors")
        return {"mask": folder}
    if "experts" not in adapter.needs:
        return {}
    for i, domain in enumerate(DOMAINS):
        own: Any = adapter.expert
        own.save(own.attach(load(origin, device="cpu")[0], previous=None, seed=i), None, folder / domain)
    return {f"experts/{domain}": folder / domain for domain in DOMAINS}


def attached(
    adapter: Adapter,
    origin: ModelRef,
    given: Mapping[str, Path] = {},
    *,
    previous: Path | None = None,
    seed: int = 3,
) -> Any:
    if previous is not None and not adapter.needs_base:
        origin = ModelRef(path=str(previous / adapter.where))
    own = {} if previous is not None else given
    return adapter.attach(load(origin, device="cpu")[0], previous=previous, seed=seed, domains=DOMAINS, given=own)


def following(model: Any, before: dict[str, torch.Tensor]) -> set[int]:
    """Weights that follow from what moves: those of which it holds entries."""
    kept = getattr(model, "lota", ())
    return {entries.weight.data_ptr() for entries in kept} & {model.state_dict()[name].data_ptr() for name in before}


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS).logits


def moved(
    adapter: Adapter, origin: ModelRef, given: Mapping[str, Path], *, steps: int = 20
) -> tuple[Any, dict[str, torch.Tensor], list[float]]:
    """Train a little; return the module, all its tensors before, and the losses."""
    model = attached(adapter, origin, given)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(adapter.state(model).values(), lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(steps):
        adapter.before_forward(model, BATCH)
        loss = model(input_ids=IDS, labels=IDS).loss
        extra = adapter.extra_loss(model, BATCH)
        (loss if extra is None else loss + extra).backward()
        adapter.after_backward(model)
        optimizer.step()
        adapter.after_step(model)
        optimizer.zero_grad()
        losses.append(loss.item())
    return model, before, losses


def test_members_say_what_they_are() -> None:
    for word, member in ADAPTERS.items():
        assert member().name == word
        assert member.where in ("model", "adapter")
        assert member.reference
        assert member.summary


def test_output_is_unchanged_at_the_start(adapter: Adapter, origin: ModelRef, given: Mapping[str, Path]) -> None:
    agree(logits(attached(adapter, origin, given)), logits(load(origin, device="cpu")[0]), adapter)


def test_only_what_state_names_moves_and_all_of_it(adapter: Adapter, origin: ModelRef, given: Mapping[str, Path]) -> None:
    model, before, _ = moved(adapter, origin, given)
    after = model.state_dict()
    changed = {after[name].data_ptr() for name in before if not torch.equal(before[name], after[name])}
    assert changed - following(model, before) == {
        tensor.data_ptr() for tensor in adapter.state(model).values()
    }  # tied weights have several names


def test_loss_falls(adapter: Adapter, origin: ModelRef, given: Mapping[str, Path]) -> None:
    losses = moved(adapter, origin, given)[2]
    assert losses[-1] < losses[0] - 0.5


def test_save_and_load_round_trip_exactly(
    adapter: Adapter, origin: ModelRef, given: Mapping[str, Path], tmp_path: Path
) -> None:
    model, _, _ = moved(adapter, origin, given, steps=3)
    adapter.save(model, load_tokenizer(origin.path), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [adapter.where]
    again = attached(adapter, origin, previous=tmp_path)
    state, state_again = adapter.state(model), adapter.state(again)
    assert state.keys() == state_again.keys()
    assert adapter.name in ROUNDED or all(torch.equal(state[name], state_again[name]) for name in state)
    agree(logits(model), logits(again), adapter)
    weights = [path.suffix for path in (tmp_path / adapter.where).rglob("*") if path.suffix in (".bin", ".pt", ".safetensors")]
    assert set(weights) == {".safetensors"}


def test_start_is_a_function_of_the_seed(adapter: Adapter, origin: ModelRef, given: Mapping[str, Path]) -> None:
    one, two = (adapter.state(attached(adapter, origin, given)) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_global_randomness_is_untouched(adapter: Adapter, origin: ModelRef, given: Mapping[str, Path]) -> None:
    state = torch.get_rng_state()
    attached(adapter, origin, given)
    assert torch.equal(state, torch.get_rng_state())


def test_what_is_saved_loads_as_a_model_that_answers_alike(
    adapter: Adapter, origin: ModelRef, given: Mapping[str, Path], tmp_path: Path
) -> None:
    model, _, _ = moved(adapter, origin, given, steps=3)
    adapter.save(model, load_tokenizer(origin.path), tmp_path)
    if adapter.needs_base:
        describe(tmp_path / "adapter", adapter, fingerprint(load(origin, device="cpu")[0]))
        again = load(ModelRef(path=origin.path, adapter=str(tmp_path / "adapter")), device="cpu")[0]
    else:
        again = load(ModelRef(path=str(tmp_path / "model")), device="cpu")[0]
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=2e-5)


@pytest.mark.parametrize("word", sorted(NOT_TRANSPOSED))
def test_a_method_without_transposed_maps_says_so(word: str, gpt2: ModelRef) -> None:
    with pytest.raises(SpecError, match=rf"targets: {word} has no such map; expected maps of torch\.nn\.Linear; got .*Conv1D"):
        attached(MEMBERS[word], gpt2)


def test_lora_draws_by_its_seed(base: ModelRef) -> None:
    one, two = (Lora().state(attached(Lora(), base, seed=seed)) for seed in (1, 2))
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_lora_moves_only_its_targets(base: ModelRef) -> None:
    adapter = Lora(rank=2, targets=("q_proj", "layers.1.mlp.up_proj"))
    state = adapter.state(attached(adapter, base))
    places = {name.removeprefix("base_model.model.model.").split(".lora_")[0] for name in state}
    assert places == {"layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj", "layers.1.mlp.up_proj"}
    assert sum(tensor.numel() for tensor in state.values()) == 3 * 2 * (64 + 64)


def test_lora_folder_does_not_depend_on_the_machine(base: ModelRef, tmp_path: Path) -> None:
    Lora().save(attached(Lora(), base), None, tmp_path)
    config = (tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    assert str(Path(base.path).parent) not in config
    targets = json.loads(config)["target_modules"]
    assert targets == sorted(targets)  # peft keeps a set, whose order no two processes share
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_unknown_target_lists_those_that_exist(base: ModelRef) -> None:
    with pytest.raises(SpecError, match=r"targets: no such module.*down_proj.*v_proj; got q_prj; did you mean 'q_proj'"):
        attached(Lora(targets=("q_prj",)), base)


def test_output_layer_is_no_target(base: ModelRef) -> None:
    with pytest.raises(SpecError, match="got lm_head"):
        attached(Lora(targets=("lm_head",)), base)


@pytest.mark.parametrize(("other", "field"), [
    (Lora(rank=4), "rank"), (Lora(alpha=8), "alpha"), (Lora(dropout=0.5), "dropout"), (Lora(targets=("q_proj",)), "targets"),
    (Lora(dora=True), "dora"), (Lora(rslora=True), "rslora"), (Shira(), "name"),
])  # fmt: skip
def test_lora_does_not_go_on_from_another(other: Adapter, field: str, base: ModelRef, tmp_path: Path) -> None:
    Lora().save(attached(Lora(), base), None, tmp_path)
    with pytest.raises(SpecError, match=f"{field}: the previous adapter has another"):
        attached(other, base, previous=tmp_path)


def test_lora_does_not_go_on_from_a_full_model(base: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no adapter in the folder.*full fine-tuning leaves a model/"):
        attached(Lora(), base, previous=tmp_path)


def test_lora_of_another_model_is_refused(base: ModelRef, gpt2: ModelRef, tmp_path: Path) -> None:
    Lora().save(attached(Lora(), gpt2), None, tmp_path)
    with pytest.raises(ModelError, match="the adapter does not fit the model"):
        attached(Lora(), base, previous=tmp_path)
