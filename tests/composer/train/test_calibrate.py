"""A mask is what moved furthest in a short full training; what is stopped goes on, and earlier masks are held fast."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from composer.errors import SpecError
from composer.fingerprint import sha256
from composer.train import Train, calibrate, train
from composer.train.adapters.lota import DELTA, MASK
from composer.train.calibrate import Held, calibration
from composer.train.model import load
from composer.train.sparse.mask import Mask, extract_mask, maskable, shapes_of
from composer.train.sparse.vector import SparseDelta
from composer.types import ModelRef

Run = Callable[..., dict[str, Any]]


class Stopped(BaseException):
    """Stands for a kill: nothing catches it."""


def spec_of(*, steps: int = 3, sparsity: float = 0.9, **fields: Any) -> Train:
    adapter = {"name": "lota", "sparsity": sparsity, "calibration_steps": steps, **fields.pop("adapter", {})}
    return Train(**{"adapter": adapter, "batch_size": 8, "threads": 1, "device": "cpu", **fields})


@pytest.fixture
def given(samples: pl.DataFrame, composed: Any, base: ModelRef) -> dict[str, Any]:
    return {"composition": composed(samples), "samples": samples, "model": base, "max_length": 64, "seed": 7}


@pytest.fixture
def made(given: dict[str, Any]) -> Run:
    def made(folder: Path, *, start: Path | None = None, rows: int | None = None, **fields: Any) -> dict[str, Any]:
        own = {**given, "composition": given["composition"].head(rows)} if rows else given
        return calibrate(**own, start=start, spec=spec_of(**fields), folder=folder)

    return made


def test_it_keeps_what_full_training_moved_furthest(made: Run, given: dict[str, Any], base: ModelRef, tmp_path: Path) -> None:
    stats = made(tmp_path / "mask", weight_decay=0.1)
    full = Train(
        adapter="full", batch_size=8, threads=1, device="cpu", weight_decay=0.1, lr_schedule="constant", warmup_ratio=0
    )
    first = {**given, "composition": given["composition"].head(24)}
    train(**first, start=None, spec=full, folder=tmp_path / "full")
    before, after = (maskable(load(m, device="cpu")[0]) for m in (base, ModelRef(path=str(tmp_path / "full/model"))))
    expected = extract_mask({name: after[name] - before[name] for name in before}, 0.9)
    mask = Mask.load(tmp_path / "mask" / MASK)
    assert mask.overlap(expected) == 1
    assert stats == {
        "steps": 3, "rows": 24, "wanted": mask.n_kept, "kept": round(0.1 * mask.n_entries), "entries": mask.n_entries,
        "density": mask.density,
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "mask").iterdir()) == ["mask.json", MASK]


def test_one_step_goes_by_the_gradient(made: Run, base: ModelRef, tmp_path: Path, samples: pl.DataFrame) -> None:
    from composer.train.batches import held_out_rows
    from composer.train.layout import padded, token_losses

    made(tmp_path, steps=1)
    network, tokenizer = load(base, device="cpu")
    rows = held_out_rows(samples.head(8), ["law", "code"], tokenizer=tokenizer, max_length=64)
    token_losses(network, padded(rows)).mean().backward()
    expected = extract_mask({name: weight.grad for name, weight in maskable(network).items()}, 0.9)
    assert Mask.load(tmp_path / MASK).overlap(expected) > 0.999


def test_adam_s_first_step_would_not_tell_entries_apart(base: ModelRef) -> None:
    network = load(base, device="cpu")[0]
    ids = torch.arange(5, 69).reshape(4, 16)
    network(input_ids=ids, labels=ids).loss.backward()
    before = {name: weight.detach().clone() for name, weight in maskable(network).items()}
    torch.optim.AdamW(network.parameters(), lr=2e-4, weight_decay=0).step()
    sizes = torch.cat([(weight.detach() - before[name]).abs().flatten() for name, weight in maskable(network).items()])
    assert float(sizes.quantile(0.99)) < 1.001 * float(sizes.median())


def test_the_account_says_what_is_kept_where(made: Run, tmp_path: Path) -> None:
    made(tmp_path, adapter={"scope": "tensor"}, sparsity=0.75)
    told, mask = json.loads((tmp_path / "mask.json").read_text()), Mask.load(tmp_path / MASK)
    assert {name: kind["matrices"] for name, kind in told["kinds"].items()} == dict.fromkeys(
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
         "mlp.down_proj"], 2,
    )  # fmt: skip
    assert sum(kind["kept"] for kind in told["kinds"].values()) == told["kept"] == mask.n_kept == told["wanted"]
    assert all(kind["density"] == 0.25 for kind in told["kinds"].values())
    assert (told["earlier"], told["overlap"]) == (0, 0)


def test_masks_of_a_sequence_are_disjoint_and_earlier_entries_are_held(
    made: Run, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    made(one, learning_rate=1e-2)
    fields = {"start": None, "spec": spec_of(learning_rate=1e-2), "folder": tmp_path / "trained", "given": {"mask": one}}
    train(**given, **fields)
    seen, was = [], Held.after_step

    def after_step(self: Held, model: Any) -> None:
        was(self, model)
        seen.append(SparseDelta.of(maskable(model), Mask.load(one / MASK)))

    monkeypatch.setattr(Held, "after_step", after_step)
    made(two, start=tmp_path / "trained", learning_rate=1e-2, weight_decay=0.5)
    held = SparseDelta.load(tmp_path / "trained/adapter" / DELTA)
    assert len(seen) == 3
    assert all(torch.equal(each.values[name], values) for each in seen for name, values in held.values.items())
    assert Mask.load(one / MASK).overlap(Mask.load(two / MASK)) == 0
    told = json.loads((two / "mask.json").read_text())
    assert told["earlier"] == held.mask.n_kept
    with pytest.raises(SpecError, match=r"earlier masks leave too little; expected \d+ of \d+ free"):
        made(tmp_path / "three", start=tmp_path / "trained", sparsity=0.05)


def test_a_stopped_calibration_ends_in_the_same_bits(made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how, count, was = {"steps": 5, "checkpoint_every": 2}, 0, Held.after_step
    whole = made(tmp_path / "whole", **how)

    def after_step(self: Held, model: Any) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise Stopped
        was(self, model)

    with monkeypatch.context() as patched:
        patched.setattr(Held, "after_step", after_step)
        with pytest.raises(Stopped):
            made(tmp_path / "stopped", **how)
    assert (tmp_path / "stopped/.trainer/checkpoint-2").is_dir()
    assert made(tmp_path / "stopped", **how) == whole
    for name in (MASK, "mask.json"):
        assert sha256(tmp_path / "stopped" / name) == sha256(tmp_path / "whole" / name)


def test_few_rows_come_again(made: Run, tmp_path: Path) -> None:
    stats = made(tmp_path, steps=5, rows=10)
    assert (stats["steps"], stats["rows"]) == (5, 10)


def test_nothing_that_moved_is_refused(made: Run, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"train\.learning_rate: nothing moved in the calibration; got 0\.0; raise it"):
        made(tmp_path, learning_rate=0.0)


def test_length_and_rate_of_the_training_do_not_bear_on_it() -> None:
    one = spec_of(epochs=3, lr_schedule="cosine", warmup_ratio=0.5)
    assert calibration(one).identity() == calibration(spec_of()).identity()
    assert calibration(spec_of(learning_rate=1e-3)).identity() != calibration(one).identity()


def test_gpt2_is_calibrated_and_trained(given: dict[str, Any], gpt2: ModelRef, tmp_path: Path) -> None:
    own = {**given, "model": gpt2, "spec": spec_of(learning_rate=1e-2), "start": None}
    calibrate(**own, folder=tmp_path / "mask")
    stats = train(**own, folder=tmp_path / "out", given={"mask": tmp_path / "mask"})
    assert stats["loss_last"] < stats["loss_first"]
    again = load(ModelRef(path=gpt2.path, adapter=str(tmp_path / "out/adapter")), device="cpu")[0]
    before, mask = load(gpt2, device="cpu")[0], Mask.load(tmp_path / "mask" / MASK)
    assert shapes_of(maskable(before)) == mask.shapes
    for name, weight in before.named_parameters():
        differs = again.get_parameter(name) != weight
        assert not bool(differs[~mask.boolean(name)].any() if name in mask.shapes else differs.any())
    calibrate(**{**own, "start": tmp_path / "out"}, folder=tmp_path / "second")
    assert Mask.load(tmp_path / "second" / MASK).overlap(mask) == 0


def test_an_adapter_without_a_mask_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"train\.adapter: an adapter without a mask; expected lota; got full"):
        calibrate(**given, start=None, spec=Train(device="cpu"), folder=tmp_path)
