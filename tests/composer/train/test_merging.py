"""Merging gives exact sums where adapters do not meet, and what TIES and DARE say where they do, as a plain model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from composer.errors import ModelError, SpecError
from composer.train.adapters.lora import Lora
from composer.train.adapters.lota import DELTA, Lota
from composer.train.merging import METHODS, dare, merge, summed, ties
from composer.train.model import describe, fingerprint, load
from composer.train.sparse.mask import Mask, extract_mask, maskable
from composer.train.sparse.vector import SparseDelta
from composer.types import ModelRef

Weights = dict[str, torch.Tensor]
Trained = Callable[..., Path]


def weights_of(path: str | Path) -> Weights:
    return {name: each.detach() for name, each in load(ModelRef(path=str(path)), device="cpu")[0].named_parameters()}


def same(one: Weights, two: Weights) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def sparse(base: ModelRef, folder: Path, *, seed: int, forbid: Mask | None = None) -> Mask:
    """Leave a sparse vector as if it was trained."""
    network, dice = load(base, device="cpu")[0], torch.Generator().manual_seed(seed)
    weights = maskable(network)
    moved = {name: torch.randn(weight.shape, generator=dice) for name, weight in weights.items()}
    mask = extract_mask(moved, 0.9, forbid=forbid)
    trained = {name: weight.detach() + 0.03 * moved[name] for name, weight in weights.items()}
    SparseDelta.of(trained, mask).save(folder / "adapter" / DELTA)
    describe(folder / "adapter", Lota(), fingerprint(network))
    return mask


def lora(base: ModelRef, folder: Path, *, seed: int) -> None:
    """Leave a LoRA as if it was trained."""
    network = load(base, device="cpu")[0]
    print_, adapter = fingerprint(network), Lora(rank=3)
    model, dice = adapter.attach(network, previous=None, seed=seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.state(model).values():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=dice))
    adapter.save(model, None, folder)
    describe(folder / "adapter", adapter, print_)


@pytest.fixture
def disjoint(base: ModelRef, tmp_path: Path) -> list[Path]:
    first = sparse(base, tmp_path / "one", seed=1)
    sparse(base, tmp_path / "two", seed=2, forbid=first)
    return [tmp_path / "one", tmp_path / "two"]


def tensors(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_the_numbers_of_ties() -> None:
    found = ties(tensors([2, 2, 1, 0], [-1, 1, -1, 0]), torch.ones(2, dtype=torch.float64), 1.0)
    assert found.tolist() == [2, 1.5, 1, 0]


def test_weights_cancel_under_ties_where_deltas_do_not_meet_and_not_in_sums() -> None:
    apart = tensors([0.3, 0, -0.7], [0, 0.11, 0])
    weights = torch.tensor([0.37, 5.1], dtype=torch.float64)
    torch.testing.assert_close(ties(apart, weights, 1.0), apart.sum(0), rtol=1e-15, atol=0)
    assert torch.equal(ties(apart, torch.ones(2, dtype=torch.float64), 1.0), apart.sum(0))
    assert not torch.allclose(summed(apart, weights, 1.0), apart.sum(0))


def test_weights_elect_the_sign_under_ties() -> None:
    meet = tensors([2.0], [-1.0])
    assert ties(meet, torch.tensor([1.0, 3.0], dtype=torch.float64), 1.0).item() == -1
    assert ties(tensors([2.0], [1.0]), torch.tensor([1.0, 3.0], dtype=torch.float64), 1.0).item() == (2 + 3) / 4


def test_ties_trims_each_delta_by_its_own() -> None:
    found = ties(tensors([10, 9, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]), torch.ones(2, dtype=torch.float64), 0.5)
    assert found.tolist() == pytest.approx([10, 9, 0.3, 0.4])


def test_dare_keeps_a_share_made_larger_so_that_the_mean_stays() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = dare(torch.ones(1, 40_000, dtype=torch.float64), torch.ones(1, dtype=torch.float64), 0.25)
    assert set(found.unique().tolist()) == {0.0, 4.0}
    assert found.mean().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("method", ["add", "task_arithmetic", "ties"])
def test_disjoint_sparse_vectors_add_up_exactly_in_any_order(
    method: str, base: ModelRef, disjoint: list[Path], tmp_path: Path
) -> None:
    merge(base, disjoint, method=method, folder=tmp_path / "ab")
    merge(base, disjoint[::-1], method=method, folder=tmp_path / "ba")
    expected = weights_of(base.path)
    for folder in disjoint:
        SparseDelta.load(folder / "adapter" / DELTA).apply(expected)
    assert same(weights_of(tmp_path / "ab"), expected)
    assert same(weights_of(tmp_path / "ba"), expected)


def test_one_adapter_merged_is_that_adapter(base: ModelRef, disjoint: list[Path], tmp_path: Path) -> None:
    merge(base, disjoint[:1], folder=tmp_path / "merged")
    loaded = load(ModelRef(path=base.path, adapter=str(disjoint[0] / "adapter")), device="cpu")[0]
    assert same(weights_of(tmp_path / "merged"), dict(loaded.named_parameters()))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_loras_and_sparse_vectors_mix(kind: str, base: ModelRef, gpt2: ModelRef, tmp_path: Path) -> None:
    origin = base if kind == "llama" else gpt2
    lora(origin, tmp_path / "lora", seed=1)
    sparse(origin, tmp_path / "sparse", seed=2)
    told = merge(
        origin, [tmp_path / "lora", tmp_path / "sparse"], method="task_arithmetic", weights=[0.5, 2.0], folder=tmp_path / "out"
    )
    found, before = weights_of(tmp_path / "out"), weights_of(origin.path)
    low = dict(load(ModelRef(path=origin.path, adapter=str(tmp_path / "lora/adapter")), device="cpu")[0].named_parameters())
    thin = dict(load(ModelRef(path=origin.path, adapter=str(tmp_path / "sparse/adapter")), device="cpu")[0].named_parameters())
    for name, weight in before.items():
        expected = weight + 0.5 * (low[name] - weight) + 2 * (thin[name] - weight)
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-6)
    assert not same(found, before)
    assert told["moved"] == [len(maskable(load(origin, device="cpu")[0]))] * 2


def test_the_result_is_a_plain_checkpoint(base: ModelRef, disjoint: list[Path], tmp_path: Path) -> None:
    merge(base, disjoint, method="dare", density=0.5, weights=[1, 0.5], seed=4, folder=tmp_path / "out/merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out/merged")
    assert model.config.tie_word_embeddings == load(base, device="cpu")[0].config.tie_word_embeddings
    ours, theirs = (AutoTokenizer.from_pretrained(path) for path in (tmp_path / "out/merged", base.path))
    assert ours.chat_template == theirs.chat_template
    assert ours.chat_template
    assert ours("The court.")["input_ids"] == theirs("The court.")["input_ids"]
    told = json.loads((tmp_path / "out/merged/merge.json").read_text())
    assert (told["method"], told["weights"], told["density"], told["seed"]) == ("dare", [1.0, 0.5], 0.5, 4)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["merged"]
    merge(base, disjoint, method="dare", density=0.5, weights=[1, 0.5], seed=4, folder=tmp_path / "again")
    merge(base, disjoint, method="dare", density=0.5, weights=[1, 0.5], seed=5, folder=tmp_path / "other")
    assert same(weights_of(tmp_path / "again"), weights_of(tmp_path / "out/merged"))
    assert not same(weights_of(tmp_path / "other"), weights_of(tmp_path / "again"))


@pytest.mark.parametrize(("fields", "told"), [
    ({"method": "tie"}, "method: unknown method 'tie'; did you mean 'ties'"),
    ({"weights": [1, 1]}, "weights: add takes none; methods with weights: task_arithmetic, ties, dare"),
    ({"density": 0.5}, "density: add takes none; methods with a density: ties, dare"),
    ({"method": "ties", "density": 0.0}, "density: no density; expected a share in"),
    ({"method": "ties", "weights": [1, -1]}, "weights: no such weights; expected 2, each a positive number; got 1.0, -1.0"),
    ({"method": "dare", "weights": [1]}, "weights: no such weights; expected 2, each a number; got 1.0"),
    ({"trained": []}, "trained: nothing to merge"),
])  # fmt: skip
def test_settings_that_do_not_fit_are_refused(
    fields: Any, told: str, base: ModelRef, disjoint: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=told):
        merge(base, **{"trained": disjoint, "folder": tmp_path / "out", **fields})
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_merged_is_refused(base: ModelRef, gpt2: ModelRef, disjoint: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"an adapter of another base; expected base .*; got base"):
        merge(gpt2, disjoint, folder=tmp_path / "out")
    (disjoint[0] / "adapter" / "adapter.json").write_text('{"adapter": {"name": "lota"}, "base": null}')
    with pytest.raises(ModelError, match="sparse vector: a mask that does not fit"):
        merge(gpt2, disjoint[:1], folder=tmp_path / "out")
    (tmp_path / "full/model").mkdir(parents=True)
    with pytest.raises(ModelError, match="a whole model, not an adapter; expected adapter/; got model/; adapters alone"):
        merge(base, [tmp_path / "full"], folder=tmp_path / "out")
    (disjoint[0] / "adapter" / "adapter.json").write_text('{"adapter": {"name": "full"}, "base": null}')
    with pytest.raises(ModelError, match="it cannot be merged; expected sums to weights, of lora, lota or shira; got full"):
        merge(base, disjoint[:1], folder=tmp_path / "out")
    with pytest.raises(SpecError, match="out: it is there already"):
        merge(base, disjoint[1:], folder=disjoint[0])
    assert not (tmp_path / "out").exists()


def test_methods_of_one_delta_are_that_delta() -> None:
    one = torch.randn(1, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.random.fork_rng():
        for name, method in METHODS.items():
            assert torch.equal(method(one, torch.ones(1, dtype=torch.float64), 1.0), one[0]), name


def test_more_than_products_is_refused(base: ModelRef, tmp_path: Path) -> None:
    lora(base, tmp_path / "lora", seed=1)
    path = tmp_path / "lora/adapter/adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "bias": "lora_only"}))
    with pytest.raises(ModelError, match="it cannot be merged; expected updates of lora alone; got lora with bias lora_only"):
        merge(base, [tmp_path / "lora"], folder=tmp_path / "out")


def test_a_weight_that_is_tied_to_another_is_refused(base: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lora(base, tmp_path / "lora", seed=1)
    monkeypatch.setattr(Lora, "deltas", lambda *_: {"lm_head.weight": lambda: None})
    with pytest.raises(ModelError, match=r"a weight that the base does not hold by itself; got lm_head\.weight; it is tied"):
        merge(base, [tmp_path / "lora"], folder=tmp_path / "out")
