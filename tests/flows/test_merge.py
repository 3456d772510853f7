"""The command merge takes artifacts of a store, or folders, and says what it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from composer.artifact import Artifact, Store
from composer.errors import SpecError
from composer.train.model import load
from composer.types import ModelRef
from flows.cli import app
from flows.pipeline import make_plan
from flows.recipe import read_recipe
from flows.shell import carry_out


def told(*words: Any) -> Any:
    return CliRunner().invoke(app, ["merge", *map(str, words)])


def test_artifacts_become_a_checkpoint(done: tuple[Path, dict[str, Artifact]], world: Path) -> None:
    base = done[1]["base"].path / "model"
    given = [f"root={json.dumps(str(world))}", f"base_model={{path: {json.dumps(str(base))}}}", "probe=null", "law=uniform"]
    store = Store(world / "store")
    adapters = ("{name: lota, calibration_steps: 1}", "{name: lora, rank: 2}")
    keys = []
    for adapter in adapters:
        plan = make_plan(read_recipe(world / "recipe.yaml", [*given, f"train.adapter={adapter}"]), store)
        keys.append(carry_out(plan.until("train"), store, plain=True)["train"].key)
    where = ("--store", store.root)
    out = world / "merged"
    ran = told(
        base, *(f"model/{key}" for key in keys), "--method", "ties", "--weights", "1,0.5", "--out", out, *where, "--json"
    )
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    assert (document["method"], document["weights"], document["folder"]) == ("ties", [1.0, 0.5], str(out))
    assert load(ModelRef(path=str(out)), device="cpu")
    shown = told(base, store.root / "model" / keys[0], "--out", world / "one", *where)
    assert "Merged by add" in shown.output
    named = told(
        f"base/{done[1]['base'].key}", store.root / "model" / keys[0], "--out", world / "two", "--store", done[0] / "store"
    )
    assert named.exit_code == 0, named.output
    assert (world / "one/model.safetensors").read_bytes() == (world / "two/model.safetensors").read_bytes()
    lost = told(base, "0123", "--out", out, *where)
    assert "no such artifact; got 0123" in str(lost.exception)
    refused = told(base, keys[0], "--weights", "one", "--out", out, *where)
    assert isinstance(refused.exception, SpecError)
    assert str(refused.exception).startswith("--weights: no numbers; expected such as 1,0.5; got one")


def test_help_names_it() -> None:
    assert "Merge adapters of one base into a plain checkpoint" in CliRunner().invoke(app, ["merge", "--help"]).output
