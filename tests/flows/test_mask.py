"""A recipe that trains in a mask makes it before, of every phase one disjoint from those before it, and shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from composer.artifact import Artifact, Store
from composer.errors import SpecError
from composer.train.adapters.lota import DELTA, MASK
from composer.train.calibrate import Held
from composer.train.model import load
from composer.train.sparse.mask import Mask
from composer.train.sparse.vector import SparseDelta
from composer.types import ModelRef
from flows.pipeline import make_plan
from flows.plan import Plan
from flows.recipe import read_recipe
from flows.shell import carry_out
from flows.views import VIEWS

Done = tuple[Path, dict[str, Artifact]]
LOTA = "train.adapter={name: lota, sparsity: 0.9, calibration_steps: 2}"
SEQUENCE = (
    "sequence=[law, medicine, code]", "law=proportional", "budget={unit: samples}", "replay={name: random, per_task: 12}",
)  # fmt: skip


class Stopped(BaseException):
    """Stands for a kill: nothing catches it."""


def planned(done: Done, world: Path, *more: str, store: str = "store") -> tuple[Plan, Store]:
    base = json.dumps(str(done[1]["base"].path / "model"))
    given = [f"root={json.dumps(str(world))}", f"base_model={{path: {base}}}", "probe=null", "law=uniform", LOTA, *more]
    where = Store(world / store)
    return make_plan(read_recipe(world / "recipe.yaml", given), where), where


def carried_out(done: Done, world: Path, *more: str, store: str = "store") -> tuple[Plan, dict[str, Artifact]]:
    plan, where = planned(done, world, *more, store=store)
    return plan, carry_out(plan, where, plain=True)


def test_the_mask_comes_before_the_training_and_is_told_of(done: Done, world: Path) -> None:
    plan, made = carried_out(done, world)
    labels = [step.label for step in plan]
    assert labels.index("compose") < labels.index("mask") < labels.index("train")
    stats = made["mask"].manifest.stats
    assert stats["kept"] == made["train"].manifest.stats["trainable_parameters"] == round(0.1 * stats["entries"])
    shown = "\n".join(str(each) for each in VIEWS["mask"](made["mask"]))
    assert "Made by 2 steps of full training on 16 rows." in shown
    assert "earlier masks keep" not in shown.lower()
    run = made["report"].json("run.json")["artifacts"]
    assert {"kind": "mask", "key": made["mask"].key} in run
    assert made["evaluate after mixture"].manifest.stats["domains"] != made["evaluate before"].manifest.stats["domains"]


def test_only_what_bears_on_the_mask_makes_it_again(done: Done, world: Path) -> None:
    def keys(*more: str) -> tuple[str, str]:
        steps = {step.label: step.key for step in planned(done, world, *more)[0]}
        return steps["mask"], steps["train"]

    one, longer = keys(), keys("train.epochs=2", "train.lr_schedule=linear", "train.warmup_ratio=0.5")
    assert longer[0] == one[0]
    assert longer[1] != one[1]
    for change in ("train.adapter.sparsity=0.8", "train.learning_rate=1e-3", "train.batch_size=4", "seed=4"):
        assert keys(change)[0] != one[0], change


@pytest.mark.slow
def test_masks_of_a_sequence_are_disjoint(done: Done, world: Path) -> None:
    plan, made = carried_out(done, world, *SEQUENCE)
    phases = ("law", "medicine", "code")
    labels = [step.label for step in plan]
    assert [label for label in labels if label.split()[0] in ("mask", "train")] == [
        f"{stage} {phase}" for phase in phases for stage in ("mask", "train")
    ]
    masks = [Mask.load(made[f"mask {phase}"].file(MASK)) for phase in phases]
    assert all(one.overlap(two) == 0 for i, one in enumerate(masks) for two in masks[:i])
    deltas = [SparseDelta.load(made[f"train {phase}"].path / "adapter" / DELTA) for phase in phases]
    assert [delta.mask.n_kept for delta in deltas] == [sum(m.n_kept for m in masks[: i + 1]) for i in range(3)]
    for i in (1, 2):  # what was trained before stays, to the bit
        before = deltas[i].only(deltas[i - 1].mask).values
        assert all(torch.equal(before[name], values) for name, values in deltas[i - 1].values.items())
    shown = "\n".join(str(each) for each in VIEWS["mask"](made["mask code"]))
    assert f"Earlier masks keep {deltas[1].mask.n_kept:,} entries; the overlap with them is 0%." in shown
    base = made["train code"].path / "adapter"
    origin = str(done[1]["base"].path / "model")
    network, tuned = (
        load(ModelRef(path=origin), device="cpu")[0],
        load(ModelRef(path=origin, adapter=str(base)), device="cpu")[0],
    )
    changed = sum(int((tuned.get_parameter(name) != weight).sum()) for name, weight in network.named_parameters())
    assert 0 < changed <= deltas[2].mask.n_kept


@pytest.mark.slow
def test_it_goes_with_a_law_and_its_references(done: Done, world: Path) -> None:
    law = ("train.law={name: potential, every: 2, floor: 0.05}", "train.reference={epochs: 1, rows: 8}")
    plan, made = carried_out(done, world, *law, "train.packing=64")
    assert [step.label for step in plan if step.label in ("reference", "mask", "train")] == ["reference", "mask", "train"]
    assert "weights.parquet" in made["train"].manifest.files
    assert not [name for name in made["reference"].manifest.files if name != "reference.json"]


def test_experts_have_masks_of_their_own(done: Done, world: Path) -> None:
    steps = {step.label: step for step in planned(done, world, *SEQUENCE, "evaluate.experts=true")[0]}
    alone = [label for label in steps if label.startswith("mask") and label.endswith("alone")]
    assert alone == ["mask law alone", "mask medicine alone", "mask code alone"]
    assert all("start" not in steps[label].inputs for label in alone)
    assert [steps[f"mask {phase}"].inputs.get("start") for phase in ("law", "code")] == [None, steps["train medicine"]]
    assert set(steps["report"].needs) >= {steps[label] for label in steps if label.startswith("mask")}


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_stood(done: Done, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more, was, count = ("train.adapter.calibration_steps=4", "train.checkpoint_every=2"), Held.after_step, 0
    _, whole = carried_out(done, world, *more, store="whole")

    def after_step(self: Held, model: Any) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise Stopped
        was(self, model)

    with monkeypatch.context() as patched:
        patched.setattr(Held, "after_step", after_step)
        with pytest.raises(Stopped):
            carried_out(done, world, *more)
    assert list((world / "store").rglob("checkpoint-2"))
    _, made = carried_out(done, world, *more)
    assert {label: each.manifest.files for label, each in made.items()} == {
        label: each.manifest.files for label, each in whole.items()
    }


def test_more_masks_than_fit_are_refused_before_anything_is_done(world: Path) -> None:
    given = [f"root={json.dumps(str(world))}", "probe=null", *SEQUENCE]
    told = r"train\.adapter\.sparsity: masks of all phases do not fit; expected at least 0\.6667 for 3 phases; got 0\.6"
    with pytest.raises(SpecError, match=told):
        read_recipe(world / "recipe.yaml", [*given, "train.adapter={name: lota, sparsity: 0.6}"])
    read_recipe(world / "recipe.yaml", [*given, "train.adapter={name: lota, sparsity: 0.7}"])
