"""A recipe whose training has a law finds reference losses, keeps its looks, and shows and draws them."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from composer import tables
from composer.artifact import Artifact, Store
from composer.errors import InputError, SpecError
from flows.pictures import draw
from flows.pipeline import make_plan
from flows.plan import Plan
from flows.recipe import read_recipe
from flows.shell import carry_out
from flows.views import VIEWS

Done = tuple[Path, dict[str, Artifact]]
LAW = "train.law={name: potential, every: 2, floor: 0.05}"


def carried_out(done: Done, world: Path, *more: str) -> tuple[Plan, dict[str, Artifact]]:
    base = json.dumps(str(done[1]["base"].path / "model"))
    given = [f"root={json.dumps(str(world))}", f"base_model={{path: {base}}}", "probe=null", "law=uniform", LAW, *more]
    store = Store(world / "store")
    plan = make_plan(read_recipe(world / "recipe.yaml", given), store)
    return plan, carry_out(plan.until("train"), store, plain=True)


def test_reference_losses_are_found_once_and_weights_move(done: Done, world: Path, tmp_path: Path) -> None:
    plan, made = carried_out(done, world, "train.reference={epochs: 2, rows: 8}")
    labels = [step.label for step in plan]
    assert labels.index("compose") < labels.index("reference") < labels.index("train")
    told = made["reference"].json("reference.json")
    looks = tables.read(made["train"].file("weights.parquet"), tables.WEIGHTS)
    assert dict(looks.filter(step=0).select("domain", "reference_nats").iter_rows()) == {
        domain: pytest.approx(each["loss_nats"]) for domain, each in told.items()
    }
    sums = looks.group_by("step").agg(pl.col("weight").sum())["weight"]
    assert sums.to_list() == pytest.approx([1] * len(sums))
    shown = "\n".join(str(each) for each in VIEWS["model"](made["train"]))
    assert "Looks by domain: held 3, updated" in shown
    assert "References: 2 epochs on 8 rows of each domain alone." in shown
    assert VIEWS["reference"](made["reference"])
    assert draw(made["train"], tmp_path / "weights.png").stat().st_size > 10_000
    _, again = carried_out(done, world, "train.reference={epochs: 2, rows: 8}", "train.law.sigma=0.5")
    assert again["reference"].key == made["reference"].key  # the law's own settings do not enter it
    assert again["train"].key != made["train"].key


def test_a_law_that_does_not_fit_the_domains_is_refused_before_anything_is_done(world: Path) -> None:
    def read(*given: str) -> None:
        read_recipe(world / "recipe.yaml", [f"root={json.dumps(str(world))}", *given])

    with pytest.raises(SpecError, match=r"train\.law\.target: .*physics"):
        read("train.law={name: expansion, target: physics}", "train.reference={epochs: 1}")
    with pytest.raises(SpecError, match=r"train\.law.*floor"):
        read("train.law={name: bandit, floor: 0.5}")
    with pytest.raises(
        SpecError, match=r"train\.reference\.given: no reference loss; expected one of every domain; got medicine"
    ):
        read(LAW, "train.reference={given: {law: 1.0, code: 1.0}}")


def test_given_references_need_no_runs_and_static_weights_no_reserve(done: Done, world: Path, tmp_path: Path) -> None:
    plan, made = carried_out(done, world, "train.reference={given: {law: 1.0, medicine: 1.0, code: 1.0}}")
    assert "reference" not in [step.label for step in plan]
    assert "reserve.parquet" in made["compose"].manifest.files
    _, still = carried_out(done, world, "train.law=null")
    assert "reserve.parquet" not in still["compose"].manifest.files
    rows = [tables.read(each["compose"].file("composition.parquet"), tables.COMPOSITION) for each in (made, still)]
    assert rows[0].equals(rows[1])
    with pytest.raises(InputError, match="no weights moved in this training"):
        draw(still["train"], tmp_path / "weights.png")
