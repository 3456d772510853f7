"""A mask keeps what moved furthest, as many as was asked for and no other; on disk it is exact, small and of one model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from composer.errors import FaultError, ModelError, SpecError
from composer.train.model import load
from composer.train.sparse.mask import Mask, extract_mask, maskable, to_keep
from composer.train.sparse.stored import packed, unpacked
from composer.types import ModelRef

PUBLISHED = {"w": torch.tensor([0.5, -0.1, 0.3, 0, -0.7, 0.2, 0.05, -0.4, 0.01, 0.6])}
MOVED = st.lists(
    st.lists(st.sampled_from([0.0, -0.5, 0.5, 1.0, -1.5, 2.0, 1e-30]), min_size=1, max_size=9), min_size=1, max_size=4
)
SPARSITY = st.sampled_from([0.0, 0.3, 0.5, 0.9, 0.99])


def named(lists: list[list[float]]) -> dict[str, torch.Tensor]:
    return {f"w{i}": torch.tensor(values) for i, values in enumerate(lists)}


def places(mask: Mask) -> dict[str, list[int]]:
    return {name: each.tolist() for name, each in mask.kept.items()}


def random_mask(density: float, *, seed: int, n: int = 4000) -> Mask:
    chosen = torch.rand(n, generator=torch.Generator().manual_seed(seed)) < density
    return Mask({"w": chosen.nonzero().squeeze(1)}, {"w": (n // 40, 40)})


@pytest.mark.parametrize(("sparsity", "kept"), [(0.7, [0, 4, 9]), (0.9, [4]), (0.0, [0, 1, 2, 4, 5, 6, 7, 8, 9]), (0.99, [4])])
def test_the_numbers_of_the_digest(sparsity: float, kept: list[int]) -> None:
    assert places(extract_mask(PUBLISHED, sparsity)) == {"w": kept}


@pytest.mark.parametrize(("n", "sparsity", "k"), [(10, 0.9, 1), (100, 0.9, 10), (10_000, 0.99, 100), (10, 0.999, 1)])
def test_binary_rounding_loses_no_entry(n: int, sparsity: float, k: int) -> None:
    assert to_keep(n, sparsity) == k
    assert extract_mask({"w": torch.arange(1.0, n + 1)}, sparsity).n_kept == k


def test_scopes_differ() -> None:
    moved = {"a": torch.tensor([10.0, 9.0]), "b": torch.tensor([1.0, 0.5])}
    assert places(extract_mask(moved, 0.5)) == {"a": [0, 1], "b": []}
    assert places(extract_mask(moved, 0.5, "tensor")) == {"a": [0], "b": [0]}


@given(MOVED, SPARSITY)
def test_what_is_kept_is_largest_first_and_never_zero(lists: list[list[float]], sparsity: float) -> None:
    moved = named(lists)
    flat = [(-abs(value), i) for i, value in enumerate(value for each in lists for value in each)]
    wanted = sorted(flat)[: to_keep(len(flat), sparsity)]
    expected = sorted(i for size, i in wanted if size < 0)
    kept, begin = [], 0
    mask = extract_mask(moved, sparsity)
    for name, values in moved.items():
        kept += [begin + place for place in mask.kept[name].tolist()]
        begin += len(values)
    assert kept == expected
    assert mask.n_kept == len(expected)


@given(MOVED, SPARSITY, st.sampled_from([2.0**-20, 3.0, 1e4]))
def test_scale_does_not_matter(lists: list[list[float]], sparsity: float, scale: float) -> None:
    moved = named(lists)
    scaled = {name: values * scale for name, values in moved.items()}
    assert places(extract_mask(moved, sparsity)) == places(extract_mask(scaled, sparsity))


def test_ties_do_not_enlarge_it_and_nothing_moved_is_nothing_kept() -> None:
    assert places(extract_mask({"a": torch.ones(3), "b": torch.ones(7)}, 0.6)) == {"a": [0, 1, 2], "b": [0]}
    assert extract_mask({"a": torch.zeros(10)}, 0.5).n_kept == 0
    assert places(extract_mask({"a": torch.tensor([0.0, 1e-40, 0.0, -0.0])}, 0.0)) == {"a": [1]}


def test_differences_are_taken_as_float32() -> None:
    base = torch.linspace(0.5, 1.5, 100)
    trained = base + torch.linspace(1e-6, 1e-5, 100)
    assert extract_mask({"w": trained - base}, 0.9).n_kept == 10
    assert (trained.bfloat16() - base.bfloat16()).count_nonzero() < 10


def test_forbidden_entries_are_never_kept_and_k_counts_all() -> None:
    first = extract_mask(PUBLISHED, 0.7)
    second = extract_mask(PUBLISHED, 0.7, forbid=first)
    assert places(second) == {"w": [2, 5, 7]}
    assert second.overlap(first) == 0
    third = extract_mask(PUBLISHED, 0.7, forbid=first.union(second))
    assert places(third) == {"w": [1, 6, 8]}
    with pytest.raises(SpecError, match=r"sparsity: earlier masks leave too little; expected 3 of 10 free; got 1"):
        extract_mask(PUBLISHED, 0.7, forbid=first.union(second).union(third))
    with pytest.raises(SpecError, match=r"sparsity, w: earlier masks leave too little"):
        extract_mask(PUBLISHED, 0.2, "tensor", first)


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 1.5, float("nan")])
def test_no_sparsity_is_refused(sparsity: float) -> None:
    with pytest.raises(SpecError, match=r"no sparsity; expected a share in \[0, 1\)"):
        extract_mask(PUBLISHED, sparsity)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(FaultError, match="w: weights moved by what is no number; lower learning_rate"):
        extract_mask({"w": torch.tensor([1.0, float("nan")])}, 0.5)


def test_sets_of_masks() -> None:
    a, b = random_mask(0.3, seed=1), random_mask(0.2, seed=2)
    both, either = a.boolean("w") & b.boolean("w"), a.boolean("w") | b.boolean("w")
    assert torch.equal(a.intersection(b).boolean("w"), both)
    assert torch.equal(a.union(b).boolean("w"), either)
    assert torch.equal(a.without(b).boolean("w"), a.boolean("w") & ~b.boolean("w"))
    assert a.overlap(b) == b.overlap(a) == int(both.sum()) / int(either.sum())
    assert a.overlap(a) == 1
    empty = Mask({"w": torch.zeros(0, dtype=torch.long)}, a.shapes)
    assert empty.overlap(empty) == 0
    assert a.density == int(a.boolean("w").sum()) / 4000


@given(st.sets(st.integers(0, 76)), st.just(77) | st.just(300))
def test_places_come_back_from_bits_and_from_numbers(chosen: set[int], n: int) -> None:
    ascending = torch.tensor(sorted(chosen), dtype=torch.long)
    kept = packed(ascending, n)
    found = unpacked(kept, n)
    assert found is not None
    assert torch.equal(found, ascending)
    assert kept.nbytes == min(-(-n // 8), 4 * len(chosen))


@pytest.mark.parametrize("density", [0.0, 0.01, 0.1, 0.9])
def test_files_are_exact_small_and_always_the_same(density: float, tmp_path: Path) -> None:
    mask = random_mask(density, seed=3)
    mask.save(tmp_path / "a.safetensors")
    mask.save(tmp_path / "b.safetensors")
    again = Mask.load(tmp_path / "a.safetensors")
    assert again.shapes == mask.shapes
    assert torch.equal(again.kept["w"], mask.kept["w"])
    assert again.kept["w"].dtype == torch.long
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a.safetensors").stat().st_size < 400 + min(500, 4 * mask.n_kept)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.safetensors"
    with pytest.raises(ModelError, match=r"no mask here; expected mask\.safetensors; make it again"):
        Mask.load(path)
    random_mask(0.1, seed=1).save(path)
    whole = path.read_bytes()
    for cut in (40, len(whole) - 100):
        path.write_bytes(whole[:-cut])
        with pytest.raises(ModelError, match="a mask that cannot be read"):
            Mask.load(path)
    save_file({"w": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="not a mask of ours; expected a mask in which kept entries are those that"):
        Mask.load(path)
    path.write_bytes(whole.replace(b"that training moves", b"that training keeps"))
    with pytest.raises(ModelError, match=r"not a mask of ours; .*got mask in which kept entries are those that training keeps"):
        Mask.load(path)


@pytest.mark.parametrize("kept", [
    torch.tensor([3, 2], dtype=torch.int32), torch.tensor([2, 2]), torch.tensor([-1, 2]), torch.tensor([2, 9]),
    torch.tensor([255, 255], dtype=torch.uint8), torch.tensor([255], dtype=torch.uint8), torch.tensor([1.0]),
])  # fmt: skip
def test_numbers_that_are_no_places_are_refused(kept: torch.Tensor) -> None:
    assert unpacked(kept, 9) is None


def test_a_mask_of_another_model_is_refused() -> None:
    mask = random_mask(0.1, seed=1)
    with pytest.raises(
        ModelError, match=r"m: a mask that does not fit; expected w of shape \(3, 4\); got w of shape \(100, 40\)"
    ):
        mask.check({"w": (3, 4)}, where="m")
    with pytest.raises(
        ModelError, match=r"expected v of shape .*; got no v; it was made of another model, or with other targets"
    ):
        mask.check({"v": (100, 40), "w": (100, 40)}, where="m")
    mask.check({"w": (100, 40)}, where="m")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_it_falls_on_the_matrices_of_the_layers_alone(kind: str, base: ModelRef, gpt2: ModelRef) -> None:
    network = load(base if kind == "llama" else gpt2, device="cpu")[0]
    ends = {name.removesuffix(".weight").rsplit(".", 1)[-1] for name in maskable(network)}
    llama = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert ends == (llama if kind == "llama" else {"c_attn", "c_proj", "c_fc"})
    assert len(maskable(network)) == 2 * (7 if kind == "llama" else 4)
    assert all(weight.dim() == 2 for weight in maskable(network).values())


def test_targets_name_some_of_them(base: ModelRef) -> None:
    network = load(base, device="cpu")[0]
    assert sorted(maskable(network, ("layers.1.mlp.up_proj", "o_proj"))) == [
        "model.layers.0.self_attn.o_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.layers.1.self_attn.o_proj.weight",
    ]  # fmt: skip
    for outside in ("lm_head", "embed_tokens", "norm"):
        with pytest.raises(SpecError, match=f"targets: no such module.*got {outside}"):
            maskable(network, (outside,))


def test_a_weight_that_is_tied_to_the_embedding_is_left_out(base: ModelRef) -> None:
    network = load(base, device="cpu")[0]
    shared = network.model.layers[0].self_attn
    shared.q_proj.weight = shared.k_proj.weight
    assert len(maskable(network)) == 13
    shared.o_proj.weight = network.get_input_embeddings().weight
    assert len(maskable(network)) == 12
