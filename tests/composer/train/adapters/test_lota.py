"""What a mask does not keep keeps its bits, whatever the optimiser; what it keeps is trained as it would be in its matrix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from composer.errors import ModelError, SpecError
from composer.fingerprint import sha256
from composer.train import Train, train
from composer.train.adapters.lota import DELTA, MASK, Lota
from composer.train.model import load
from composer.train.sparse.mask import Mask, extract_mask, maskable, shapes_of
from composer.train.sparse.vector import SparseDelta
from composer.types import ModelRef

IDS = torch.arange(5, 69).reshape(4, 16)
Run = Callable[..., dict[str, Any]]
Weights = dict[str, torch.Tensor]
HARD = {"weight_decay": 0.1, "learning_rate": 1e-2}


class Stopped(BaseException):
    """Stands for a kill: nothing catches it."""


def weights_of(model: ModelRef) -> Weights:
    return {name: each.detach().clone() for name, each in load(model, device="cpu")[0].named_parameters()}


def random_mask(network: Any, density: float, *, seed: int = 1, forbid: Mask | None = None) -> Mask:
    dice, weights = torch.Generator().manual_seed(seed), maskable(network)
    return extract_mask({n: torch.rand(w.shape, generator=dice) + 1 for n, w in weights.items()}, 1 - density, forbid=forbid)


def outside(mask: Mask, name: str, weight: torch.Tensor) -> torch.Tensor:
    return weight[~mask.boolean(name)] if name in mask.shapes else weight


def assert_same_outside(mask: Mask, one: Weights, two: Weights) -> None:
    for name in one:
        assert torch.equal(outside(mask, name, one[name]), outside(mask, name, two[name])), name


def result(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def mask(base: ModelRef, tmp_path: Path) -> Path:
    random_mask(load(base, device="cpu")[0], 0.1).save(tmp_path / "mask" / MASK)
    return tmp_path / "mask"


@pytest.fixture
def run(samples: pl.DataFrame, composed: Any, base: ModelRef, mask: Path) -> Run:
    def run(folder: Path, *, model: ModelRef = base, start: Path | None = None, given: Any = None, **fields: Any) -> Any:
        spec = Train(**{"adapter": "lota", "batch_size": 8, "threads": 1, "device": "cpu", **fields})
        given = {"mask": mask} if given is None else given
        composition = composed(samples)
        return train(
            composition, samples, model=model, start=start, spec=spec, max_length=64, seed=7, folder=folder, given=given
        )

    return run


def test_what_is_not_kept_keeps_its_bits(run: Run, base: ModelRef, mask: Path, tmp_path: Path) -> None:
    stats = run(tmp_path / "out", epochs=3, **HARD)
    kept = Mask.load(mask / MASK)
    assert stats["trainable_parameters"] == kept.n_kept == round(0.1 * kept.n_entries)
    before, after = weights_of(base), weights_of(ModelRef(path=base.path, adapter=str(tmp_path / "out/adapter")))
    assert_same_outside(kept, before, after)
    moved = sum(int((before[name] != after[name]).sum()) for name in before)
    assert 0.99 * kept.n_kept < moved <= kept.n_kept
    assert stats["loss_last"] < stats["loss_first"]
    assert sorted(path.name for path in (tmp_path / "out/adapter").iterdir()) == ["adapter.json", DELTA, MASK]


def test_all_entries_are_trained_as_their_matrices_would_be(base: ModelRef, tmp_path: Path) -> None:
    random_mask(load(base, device="cpu")[0], 1.0).save(tmp_path / MASK)
    adapter = Lota(sparsity=0)

    def trained(model: Any, parameters: list[torch.nn.Parameter], after: Callable[[], None]) -> Any:
        optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1, fused=True)
        for _ in range(10):
            model(input_ids=IDS, labels=IDS).loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 0.5)
            optimizer.step()
            after()
            optimizer.zero_grad()
        return model

    dense = load(base, device="cpu")[0].requires_grad_(False)
    own = [weight.requires_grad_(True) for weight in maskable(dense).values()]
    trained(dense, own, lambda: None)
    sparse = adapter.attach(load(base, device="cpu")[0], previous=None, seed=1, given={"mask": tmp_path})
    trained(sparse, list(adapter.state(sparse).values()), lambda: adapter.after_step(sparse))
    theirs, ours = maskable(dense), maskable(sparse)
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-6)


def test_the_optimiser_sees_kept_entries_alone(base: ModelRef, mask: Path) -> None:
    adapter, network = Lota(), load(base, device="cpu")[0]
    model = adapter.attach(network, previous=None, seed=1, given={"mask": mask})
    dense = maskable(model)
    with adapter.optimising(model):
        moving = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert {id(each) for each in moving.values()} == {id(each) for each in adapter.state(model).values()}
    assert moving.keys() == adapter.state(model).keys()
    assert sum(each.numel() for each in moving.values()) == Mask.load(mask / MASK).n_kept
    assert all(each.requires_grad for each in dense.values())
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert {id(each) for each in model.parameters() if each.grad is not None} == {id(each) for each in moving.values()}
    whole = load(base, device="cpu")[0]
    whole(input_ids=IDS, labels=IDS).loss.backward()
    for name, each in maskable(whole).items():
        place = name.replace(".", "/")
        assert torch.equal(model.lota.entries[place].values.grad, each.grad[Mask.load(mask / MASK).boolean(name)])


def test_decay_falls_on_kept_entries(run: Run, tmp_path: Path) -> None:
    for decay in (0.0, 0.9):
        run(tmp_path / str(decay), weight_decay=decay, learning_rate=1e-2)
    plain, decayed = (SparseDelta.load(tmp_path / name / "adapter" / DELTA) for name in ("0.0", "0.9"))
    sizes = [sum(float(values.abs().sum()) for values in delta.values.values()) for delta in (plain, decayed)]
    assert sizes[1] < 0.99 * sizes[0]


def test_steps_too_small_for_the_weights_bits_add_up(base: ModelRef, mask: Path) -> None:
    """On a GPU the base is bfloat16 and passes are made in it, while the kept entries are float32."""
    adapter, network = Lota(), load(base, device="cpu")[0].bfloat16()
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    model = adapter.attach(network, previous=None, seed=1, given={"mask": mask})
    optimizer = torch.optim.AdamW(adapter.state(model).values(), lr=1e-6, weight_decay=0)
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        adapter.after_step(model)
        optimizer.zero_grad()
    kept = Mask.load(mask / MASK)
    moved = model.lota.vector().difference(before)
    assert all(0 < float(each.abs().max()) < 4e-6 for each in moved.values())
    after = {name: weight.detach() for name, weight in model.named_parameters() if name in before}
    assert_same_outside(kept, before, after)
    assert {weight.dtype for weight in after.values()} == {torch.bfloat16}


def test_accumulated_gradients_are_those_of_the_whole_step(run: Run, tmp_path: Path) -> None:
    run(tmp_path / "whole", lr_schedule="constant", learning_rate=1e-3)
    run(tmp_path / "parts", lr_schedule="constant", learning_rate=1e-3, micro_batch=3)
    whole, parts = (SparseDelta.load(tmp_path / name / "adapter" / DELTA) for name in ("whole", "parts"))
    for name, values in whole.values.items():
        torch.testing.assert_close(parts.values[name], values, rtol=0, atol=1e-4)


@pytest.mark.parametrize("fields", [
    {"packing": 48}, {"packing": 48, "micro_batch": 2, "gradient_checkpointing": True}, {"precision": "bfloat16"},
    {"batches": "domain"}, {"adapter": {"name": "lota", "scope": "tensor"}},
])  # fmt: skip
def test_it_goes_with_other_settings(fields: Any, run: Run, base: ModelRef, mask: Path, tmp_path: Path) -> None:
    stats = run(tmp_path / "out", **{**HARD, **fields})
    assert stats["loss_last"] < stats["loss_first"]
    after = weights_of(ModelRef(path=base.path, adapter=str(tmp_path / "out/adapter")))
    assert_same_outside(Mask.load(mask / MASK), weights_of(base), after)


@pytest.mark.parametrize("stop", [2, 5])
def test_a_stopped_training_ends_in_the_same_bits(stop: int, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    how, was, count = {"checkpoint_every": 2, **HARD}, Lota.after_step, 0
    whole = run(tmp_path / "whole", **how)

    def after_step(self: Lota, model: Any) -> None:
        nonlocal count
        count += 1
        if count == stop + 1:
            raise Stopped
        was(self, model)

    with monkeypatch.context() as patched:
        patched.setattr(Lota, "after_step", after_step)
        with pytest.raises(Stopped):
            run(tmp_path / "stopped", **how)
    assert run(tmp_path / "stopped", **how) == whole
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")


def test_a_second_mask_leaves_the_first_ones_entries_alone(run: Run, base: ModelRef, mask: Path, tmp_path: Path) -> None:
    network, first = load(base, device="cpu")[0], Mask.load(mask / MASK)
    second = random_mask(network, 0.2, seed=2, forbid=first)
    second.save(tmp_path / "second" / MASK)
    one, two = tmp_path / "one", tmp_path / "two"
    run(one, **HARD)
    run(two, start=one, given={"mask": tmp_path / "second"}, **HARD)
    deltas = [SparseDelta.load(folder / "adapter" / DELTA) for folder in (one, two)]
    assert first.intersection(second).n_kept == 0
    assert deltas[1].mask.n_kept == first.n_kept + second.n_kept
    assert Mask.load(two / "adapter" / MASK).n_kept == second.n_kept
    states = [weights_of(base), *(weights_of(ModelRef(path=base.path, adapter=str(f / "adapter"))) for f in (one, two))]
    assert_same_outside(second, states[1], states[2])
    assert_same_outside(first, states[0], states[1])
    parts = [deltas[1].only(each).difference(states[0]) for each in (first, second)]
    for name in first.shapes:
        summed = torch.zeros(first.shapes[name])
        summed[first.boolean(name)] = parts[0][name]
        summed[second.boolean(name)] = parts[1][name]
        assert torch.equal(summed, states[2][name] - states[0][name])


def test_an_artifact_goes_on_with_its_last_mask(run: Run, mask: Path, tmp_path: Path) -> None:
    one, still, on = tmp_path / "one", tmp_path / "still", tmp_path / "on"
    run(one, **HARD)
    run(still, start=one, given={}, learning_rate=0.0)
    assert sha256(still / "adapter" / DELTA) == sha256(one / "adapter" / DELTA)
    run(on, start=one, given={}, **HARD)
    assert SparseDelta.load(on / "adapter" / DELTA).mask.n_kept == Mask.load(mask / MASK).n_kept


def test_values_outlive_weights_of_fewer_bits(run: Run, base: ModelRef, tmp_path: Path) -> None:
    run(tmp_path / "one", **HARD)
    network = load(base, device="cpu")[0].bfloat16()
    model = Lota().attach(network, previous=tmp_path / "one", seed=1)
    was, now = SparseDelta.load(tmp_path / "one" / "adapter" / DELTA).values, model.lota.vector().values
    assert all(torch.equal(now[name], values) for name, values in was.items())
    rounded = SparseDelta.of({name: w.float() for name, w in maskable(model).items()}, model.lota.mask).values
    assert not all(torch.equal(now[name], values) for name, values in rounded.items())


def test_masks_that_overlap_are_refused(run: Run, mask: Path, tmp_path: Path) -> None:
    run(tmp_path / "one")
    n = Mask.load(mask / MASK).n_kept
    with pytest.raises(SpecError, match=f"mask: the mask falls on entries of an earlier one; got {n} entries; make the mask"):
        run(tmp_path / "two", start=tmp_path / "one")


def test_a_mask_that_does_not_fit_is_refused(run: Run, gpt2: ModelRef, mask: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"mask: a mask that does not fit; expected .*; it was made of another model"):
        run(tmp_path / "a", model=gpt2)
    with pytest.raises(ModelError, match=r"mask: a mask that does not fit; .* or with other targets"):
        run(tmp_path / "b", adapter={"name": "lota", "targets": ["q_proj"]})
    with pytest.raises(SpecError, match="given: no mask; expected the folder of a mask"):
        run(tmp_path / "c", given={})
    (mask / MASK).write_bytes((mask / MASK).read_bytes()[:-9])
    with pytest.raises(ModelError, match="a mask that cannot be read"):
        run(tmp_path / "d")


def test_an_artifact_of_another_model_or_cut_short_is_refused(run: Run, base: ModelRef, gpt2: ModelRef, tmp_path: Path) -> None:
    run(tmp_path / "one")
    adapter = tmp_path / "one" / "adapter"
    with pytest.raises(ModelError, match="an adapter of another base"):
        load(ModelRef(path=gpt2.path, adapter=str(adapter)), device="cpu")
    with pytest.raises(ModelError, match="sparse vector: a mask that does not fit"):
        Lota().apply(load(gpt2, device="cpu")[0], adapter)
    (adapter / DELTA).write_bytes((adapter / DELTA).read_bytes()[:-1])
    with pytest.raises(ModelError, match="a sparse vector that cannot be read"):
        load(ModelRef(path=base.path, adapter=str(adapter)), device="cpu")


@pytest.mark.parametrize("sparsity", [1, 1.5, -0.1])
def test_a_sparsity_that_is_none_is_refused(sparsity: float) -> None:
    with pytest.raises(SpecError, match="sparsity"):
        Lota(sparsity=sparsity)


def test_a_matrix_of_which_nothing_is_kept_needs_no_gradient(base: ModelRef, tmp_path: Path) -> None:
    network = load(base, device="cpu")[0]
    shapes = shapes_of(maskable(network))
    first = next(iter(shapes))
    Mask({name: torch.arange(3 if name == first else 0) for name in shapes}, shapes).save(tmp_path / MASK)
    model = Lota().attach(network, previous=None, seed=1, given={"mask": tmp_path})
    assert [name for name, each in model.named_parameters() if each.requires_grad and "lota" not in name] == [first]
    assert [each.numel() for each in Lota().state(model).values()] == [3]
    assert set(model.lota.vector().values) == set(shapes)
