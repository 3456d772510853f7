"""The identities of DoRA, rsLoRA, SHiRA and OSF, what of them is merged and loaded, and what is refused."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from composer.encode import load_tokenizer
from composer.errors import ModelError, SpecError
from composer.train.adapters import Adapter
from composer.train.adapters.lora import Lora
from composer.train.adapters.mola import Mola
from composer.train.adapters.osf import Osf
from composer.train.adapters.shira import Shira
from composer.train.adapters.wrapped import layers_of
from composer.train.merging import merge
from composer.train.model import describe, fingerprint, load
from composer.types import ModelRef

Run = Callable[..., dict[str, Any]]
Network = Callable[[str], Any]
IDS = torch.arange(5, 69).reshape(4, 16)
SMALL: dict[str, Adapter] = {
    "lora": Lora(rank=4), "dora": Lora(rank=4, dora=True), "rslora": Lora(rank=4, rslora=True),
    "both": Lora(rank=4, dora=True, rslora=True), "shira": Shira(rank=4), "osf": Osf(),
}  # fmt: skip


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS).logits


def stepped(adapter: Adapter, model: Any, *, steps: int = 3, decay: float = 0.1, learning_rate: float = 1e-2) -> Any:
    optimizer = torch.optim.AdamW(adapter.state(model).values(), lr=learning_rate, weight_decay=decay)
    for _ in range(steps):
        model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
        adapter.after_backward(model)
        optimizer.step()
        adapter.after_step(model)
        optimizer.zero_grad()
    return model


def trained(adapter: Adapter, network: Any, *, seed: int = 3, **fields: Any) -> Any:
    return stepped(adapter, adapter.attach(network, previous=None, seed=seed), **fields)


@pytest.fixture
def left(base: ModelRef, tmp_path: Path) -> Callable[[str], Path]:
    """What a short training with a small adapter left, on the tiny base."""

    def left(word: str) -> Path:
        adapter, network = SMALL[word], load(base, device="cpu")[0]
        own = fingerprint(network)
        adapter.save(trained(adapter, network), load_tokenizer(base.path), tmp_path / word)
        if adapter.needs_base:
            describe(tmp_path / word / "adapter", adapter, own)
        return tmp_path / word

    return left


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("rslora", [False, True])
def test_dora_is_a_learned_norm_times_a_direction(kind: str, rslora: bool, network: Network) -> None:
    adapter = Lora(rank=4, alpha=8, dora=True, rslora=rslora)
    start = {name: layer.lora_magnitude_vector["default"].weight.detach().clone()
             for name, layer in layers_of(adapter.attach(network(kind), previous=None, seed=3)).items()}  # fmt: skip
    for name, layer in layers_of(trained(adapter, network(kind))).items():
        base = layer.get_base_layer()
        transposed = not isinstance(base, torch.nn.Linear)
        weight = (base.weight.T if transposed else base.weight).detach()
        torch.testing.assert_close(start[name], weight.norm(dim=1), rtol=0, atol=1e-6)
        m = layer.lora_magnitude_vector["default"].weight.detach()
        assert not torch.equal(m, start[name])
        scale = 8 / 4**0.5 if rslora else 8 / 4
        raised = weight + scale * layer.lora_B["default"].weight.detach() @ layer.lora_A["default"].weight.detach()
        expected = m[:, None] * raised / raised.norm(dim=1, keepdim=True)
        x = torch.randn(5, weight.shape[1], generator=torch.Generator().manual_seed(1))
        bias = 0 if base.bias is None else base.bias.detach()
        torch.testing.assert_close(layer(x).detach(), x @ expected.T + bias, rtol=0, atol=1e-5)
        delta = adapter.delta(layer)
        torch.testing.assert_close((delta.T if transposed else delta).float() + weight, expected, rtol=0, atol=1e-6)


def test_dora_begins_at_the_parts_of_lora(network: Network) -> None:
    lora, dora = (SMALL[word].state(SMALL[word].attach(network("llama"), previous=None, seed=3)) for word in ("lora", "dora"))
    assert lora.keys() < dora.keys()
    assert all(torch.equal(dora[name], part) for name, part in lora.items())
    assert all("lora_magnitude_vector" in name for name in dora.keys() - lora.keys())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_scale_of_rslora_goes_by_the_root_of_the_rank(kind: str, network: Network) -> None:
    for rank in (1, 4, 9):
        adapter = Lora(rank=rank, alpha=6, rslora=True)
        for layer in layers_of(trained(adapter, network(kind), steps=1)).values():
            product = layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double()
            moved = adapter.delta(layer).T if kind == "gpt2" else adapter.delta(layer)
            torch.testing.assert_close(moved, 6 / rank**0.5 * product, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_shira_moves_as_many_entries_as_a_lora_has_and_no_other(kind: str, network: Network) -> None:
    before, adapter = network(kind), Shira(rank=4)
    model = trained(adapter, network(kind))
    counts = {name: layer.shira_weight["default"].numel() for name, layer in layers_of(model).items()}
    after = model.merge_and_unload()
    for name, weight in before.named_parameters():
        moved = int((after.get_parameter(name) != weight).sum())
        place = name.removesuffix(".weight")
        assert moved == (4 * sum(weight.shape) if place in counts else 0), name
        assert moved == counts.get(place, 0)
    ranks = [int(torch.linalg.matrix_rank(after.get_parameter(f"{name}.weight") - before.get_parameter(f"{name}.weight")))
             for name in counts]  # fmt: skip
    assert min(ranks) > 4


def test_masks_of_shira_differ_by_map_and_are_functions_of_the_seed(network: Network) -> None:
    def masks(seed: int) -> dict[str, torch.Tensor]:
        model = Shira(rank=4).attach(network("llama"), previous=None, seed=seed)
        return {name: layer.shira_indices["default"] for name, layer in layers_of(model).items()}

    one, again, other = masks(1), masks(1), masks(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
    alike = [mask for name, mask in one.items() if name.endswith("gate_proj")]
    assert not torch.equal(alike[0], alike[1])


def test_a_shira_that_was_saved_is_let_go(network: Network, tmp_path: Path) -> None:
    model = trained(SMALL["shira"], network("llama"), steps=1)
    kept = weakref.ref(next(iter(layers_of(model).values())))
    SMALL["shira"].save(model, None, tmp_path)
    del model
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("rank", [0.5, 3])
def test_osf_moves_nothing_along_the_strongest_directions(kind: str, rank: float, network: Network, tmp_path: Path) -> None:
    adapter, before = Osf(effective_rank=rank), network(kind)
    model = trained(adapter, network(kind), steps=8)
    for name, layer in layers_of(model).items():
        weight = before.get_parameter(f"{name}.weight").detach().double()
        u, _, v = torch.linalg.svd(weight)
        k = int(min(weight.shape) * rank) if isinstance(rank, float) else rank
        moved = layer.get_base_layer().weight.detach().double() + layer.get_delta_weight("default").detach().double() - weight
        assert float(moved.abs().max()) > 1e-3
        assert float((u[:, :k].T @ moved).abs().max()) < 1e-5
        assert float((moved @ v[:k].T).abs().max()) < 1e-5
    adapter.save(model, SimpleNamespace(save_pretrained=lambda _: None), tmp_path)
    torch.testing.assert_close(logits(load_plain(tmp_path / "model")), logits(model), rtol=0, atol=1e-5)


def test_osf_leaves_alone_what_was_not_trained(network: Network) -> None:
    adapter = Osf()
    model = trained(adapter, network("llama"))
    before = {name: part.detach().clone() for name, part in adapter.state(model).items()}
    adapter.after_step(model)
    assert all(torch.equal(before[name], part) for name, part in adapter.state(model).items())


def test_the_projection_of_gradients_alone_is_left_by_adamw(network: Network) -> None:
    class Unguarded(Osf):
        def after_step(self, model: Any) -> None:
            pass

    off = []
    for adapter in (Unguarded(), Osf()):
        layer = layers_of(trained(adapter, network("llama")))["model.layers.0.mlp.up_proj"]
        weight = layer.get_base_layer().weight
        u = torch.linalg.svd(weight).U[:, : min(weight.shape) // 2]
        off.append(float((u.T @ layer.get_delta_weight("default")).detach().abs().max()))
    assert off[0] > 1e-3 > 1e-5 > off[1]


@pytest.mark.parametrize("word", ["lora", "dora", "rslora", "both", "shira"])
def test_a_folder_is_one_of_peft_and_is_merged_into_what_it_answers(
    word: str, left: Callable[[str], Path], base: ModelRef, tmp_path: Path
) -> None:
    folder = left(word)
    expected = logits(PeftModel.from_pretrained(load(base, device="cpu")[0], folder / "adapter"))
    assert not torch.allclose(expected, logits(load(base, device="cpu")[0]), atol=1e-2)
    loaded = load(ModelRef(path=base.path, adapter=str(folder / "adapter")), device="cpu")[0]
    torch.testing.assert_close(logits(loaded), expected, rtol=0, atol=1e-5)
    (folder / "adapter/adapter.json").unlink()  # as peft would leave it
    merge(base, [folder], folder=tmp_path / "merged")
    torch.testing.assert_close(logits(load_plain(tmp_path / "merged")), expected, rtol=0, atol=1e-5)


def test_updates_of_all_kinds_are_summed(left: Callable[[str], Path], base: ModelRef, tmp_path: Path) -> None:
    words = ("rslora", "dora", "shira")
    folders = [left(word) for word in words]
    merge(base, folders, method="task_arithmetic", weights=[0.5, 1.0, 2.0], folder=tmp_path / "sum")
    before, found = load(base, device="cpu")[0], load_plain(tmp_path / "sum")
    own = [load(ModelRef(path=base.path, adapter=str(folder / "adapter")), device="cpu")[0] for folder in folders]
    for name, weight in before.named_parameters():
        parts = [factor * (each.get_parameter(name) - weight) for factor, each in zip((0.5, 1.0, 2.0), own, strict=True)]
        torch.testing.assert_close(found.get_parameter(name), weight + sum(parts), rtol=0, atol=1e-6)


def test_what_osf_leaves_is_a_plain_model_that_is_not_merged(
    left: Callable[[str], Path], base: ModelRef, tmp_path: Path
) -> None:
    folder, before = left("osf"), load(base, device="cpu")[0]
    [weights] = (folder / "model").glob("*.safetensors")
    found = load_file(weights)
    plain = {name: each for name, each in before.state_dict().items() if name in found}
    assert {name: each.shape for name, each in found.items()} == {name: each.shape for name, each in plain.items()}
    moved = {name for name, each in plain.items() if not torch.equal(each, found[name])}
    assert moved == {name for name in plain if name.endswith("_proj.weight")}
    assert "lm_head.weight" in found or before.config.tie_word_embeddings
    with pytest.raises(ModelError, match="a whole model, not an adapter"):
        merge(base, [folder], folder=tmp_path / "merged")


@pytest.mark.parametrize(("adapter", "told"), [
    (Shira(rank=17), r"rank: more entries than a map has; expected at most \d+ for model.layers.0.self_attn.q_proj.*; got 17"),
    (Osf(effective_rank=64), r"effective_rank: nothing is left to move; expected 1 to \d+ for .*q_proj; got 64, that is 64"),
    (Osf(effective_rank=0.01), r"effective_rank: nothing is held; expected 1 to \d+ for .*; got 0.01, that is 0"),
    (Shira(targets=("q_prj",)), "targets: no such module"), (Osf(targets=("lm_head",)), "targets: no such module.*got lm_head"),
])  # fmt: skip
def test_what_does_not_fit_the_model_is_refused(adapter: Adapter, told: str, network: Network) -> None:
    with pytest.raises(SpecError, match=told):
        adapter.attach(network("llama"), previous=None, seed=1)


@pytest.mark.parametrize("rank", [0, 1.0, 0.0, -0.5, True])
def test_a_rank_of_osf_is_a_number_of_directions_or_a_share(rank: Any) -> None:
    with pytest.raises(SpecError, match="effective_rank"):
        Osf(effective_rank=rank)


def test_a_mixture_takes_no_dora() -> None:
    assert Mola(expert={"rslora": True}).expert.rslora
    with pytest.raises(SpecError, match=r"expert\.dora: experts of a mixture are sums to the base, and DoRA's are not"):
        Mola(expert={"dora": True})


@pytest.mark.parametrize(("adapter", "word", "field"), [
    (Shira(rank=2), "shira", "rank"), (Shira(rank=4, targets=("q_proj",)), "shira", "targets"), (Shira(rank=4), "lora", "name"),
    (Lora(rank=4), "dora", "dora"), (Lora(rank=4, dora=True), "rslora", "dora"),
])  # fmt: skip
def test_none_goes_on_from_another(
    adapter: Adapter, word: str, field: str, left: Callable[[str], Path], base: ModelRef
) -> None:
    folder = left(word)
    with pytest.raises(SpecError, match=f"{field}: the previous adapter has another"):
        adapter.attach(load(base, device="cpu")[0], previous=folder, seed=1)


def test_another_method_of_peft_is_merged_by_no_sum(left: Callable[[str], Path], base: ModelRef) -> None:
    folder = left("shira") / "adapter"
    with pytest.raises(ModelError, match="expected updates of lora alone; got shira"):
        Lora().deltas(load(base, device="cpu")[0], folder)
    assert "mask_fn" not in json.loads((folder / "adapter_config.json").read_text())


@pytest.mark.parametrize("word", ["both", "shira", "osf"])
def test_a_pass_made_otherwise_trains_alike(word: str, run: Run, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"adapter": SMALL[word], "learning_rate": 3e-3}
    plain = run(tmp_path / "plain", **fields)
    again = run(tmp_path / "again", **fields, gradient_checkpointing=True, micro_batch=3)
    assert again["loss_last"] == pytest.approx(plain["loss_last"], abs=1e-5)
    assert plain["loss_last"] < plain["loss_first"]
    rounded = run(tmp_path / "rounded", **fields, precision="bfloat16")
    assert rounded["loss_last"] == pytest.approx(plain["loss_last"], abs=0.05)
    further = run(tmp_path / "further", **fields, start=tmp_path / "plain")
    assert further["loss_first"] < plain["loss_first"]


def load_plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder)
