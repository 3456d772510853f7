"""Sparse vectors go on and come off to the bit, lie on disk exactly, and fit one model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from composer.errors import ModelError
from composer.train.sparse.mask import Mask, extract_mask
from composer.train.sparse.vector import SparseDelta

Weights = dict[str, torch.Tensor]


def weights(seed: int, *, dtype: torch.dtype = torch.float32) -> Weights:
    dice = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(30, 40, generator=dice).to(dtype), "b": torch.randn(50, generator=dice).to(dtype)}


def clones(of: Weights) -> Weights:
    return {name: each.clone() for name, each in of.items()}


def same(one: Weights, two: Weights) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def moved(base: Weights, seed: int) -> Weights:
    return {name: base[name] + 1e-3 * step for name, step in weights(seed).items()}


@pytest.fixture
def mask() -> Mask:
    return extract_mask(weights(5), 0.9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_apply_then_remove_gives_the_base_back(mask: Mask, dtype: torch.dtype) -> None:
    base = weights(1, dtype=dtype)
    trained = moved(base, 2)
    delta, there = SparseDelta.of(trained, mask), clones(base)
    was = delta.apply(there)
    for name in base:
        kept = mask.boolean(name)
        assert torch.equal(there[name][kept], trained[name].to(dtype)[kept])
        assert torch.equal(there[name][~kept], base[name][~kept])
    assert not same(there, base)
    delta.remove(there, was)
    assert same(there, base)
    step = weights(2)
    back = {name: base[name].float() + step[name] - step[name] for name in base}
    assert dtype == torch.bfloat16 or not same(back, base)  # why values are stored


def test_differences_are_those_of_float32(mask: Mask) -> None:
    base, trained = weights(1), moved(weights(1), 2)
    found = SparseDelta.of(trained, mask).difference(base)
    for name in base:
        assert torch.equal(found[name], (trained[name] - base[name])[mask.boolean(name)])


def test_disjoint_ones_join_and_part_again(mask: Mask) -> None:
    base, one, two = weights(1), moved(weights(1), 2), moved(weights(1), 3)
    other = extract_mask(weights(6), 0.9, forbid=mask)
    a, b = SparseDelta.of(one, mask), SparseDelta.of(two, other)
    both = a.joined(b)
    assert both.mask.n_kept == mask.n_kept + other.n_kept
    assert same(dict(b.joined(a).values), dict(both.values))
    assert same(dict(both.only(mask).values), dict(a.values))
    at_once, in_turn = clones(base), clones(base)
    both.apply(at_once)
    a.apply(in_turn)
    b.apply(in_turn)
    assert same(at_once, in_turn)
    with pytest.raises(ModelError, match=f"two sparse vectors of the same entries; got {mask.n_kept} in both"):
        both.joined(a)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_files_are_exact(sparsity: float, tmp_path: Path) -> None:
    base = weights(1)
    delta = SparseDelta.of(moved(base, 2), extract_mask(weights(5), sparsity))
    path = tmp_path / "delta.safetensors"
    delta.save(path)
    again = SparseDelta.load(path)
    assert same(dict(again.values), dict(delta.values))
    assert same(dict(again.mask.kept), dict(delta.mask.kept))
    assert 0 < path.stat().st_size - delta.nbytes < 700
    assert delta.nbytes <= 8 * delta.mask.n_kept
    assert sparsity > 0.9 or delta.nbytes <= 4 * delta.mask.n_kept + 160


def test_one_of_another_model_and_a_cut_one_are_refused(mask: Mask, tmp_path: Path) -> None:
    base, path = weights(1), tmp_path / "delta.safetensors"
    delta = SparseDelta.of(base, mask)
    with pytest.raises(ModelError, match=r"a mask that does not fit; expected no b; got b of shape \(50,\)"):
        delta.apply({"a": base["a"]})
    with pytest.raises(ModelError, match=r"expected a of shape \(40, 30\)"):
        delta.apply({"a": base["a"].T.contiguous(), "b": base["b"]})
    delta.save(path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ModelError, match="a sparse vector that cannot be read"):
        SparseDelta.load(path)
    mask.save(path)
    with pytest.raises(ModelError, match="not a sparse vector of ours"):
        SparseDelta.load(path)


def test_values_that_do_not_fit_their_places_are_refused(mask: Mask, tmp_path: Path) -> None:
    path = tmp_path / "delta.safetensors"
    SparseDelta(mask, {name: torch.zeros(3) for name in mask.kept}).save(path)
    with pytest.raises(ModelError, match=r"delta\.safetensors, a: no values; expected \d+ of float32; make it again"):
        SparseDelta.load(path)
