"""Experts in a pipeline: a sequence of which one phase alone has knowledge, evaluated by the engine of transformers."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from composer.artifact import Artifact, Store
from composer.errors import SpecError
from flows.pictures import draw
from flows.pipeline import make_plan
from flows.recipe import read_recipe
from flows.routing_views import averaged
from flows.shell import carry_out
from flows.views import VIEWS

MOE = "train.adapter={name: loramoe, n_experts: 4, rank: 2, knowledge: [medicine]}"
SEQUENCE = ("sequence=[law, [medicine, code]]", "probe=null", "law=proportional", "budget={unit: samples, amount: 24}")


@pytest.fixture
def sequence(done: tuple[Path, dict[str, Artifact]], world: Path) -> dict[str, Artifact]:
    base = json.dumps(str(done[1]["base"].path / "model"))
    settings = [f"root={json.dumps(str(world))}", f"base_model={{path: {base}}}", *SEQUENCE, MOE, "train.batch_size=2"]
    store = Store(world / "store")
    return carry_out(make_plan(read_recipe(world / "recipe.yaml", settings), store).until("retain"), store, plain=True)


def test_phases_go_on_are_evaluated_and_say_where_tokens_went(sequence: dict[str, Artifact], tmp_path: Path) -> None:
    told = [json.loads((sequence[f"train {name}"].path / "train.json").read_text()) for name in ("law", "medicine+code")]
    assert [each["spec"]["adapter"]["knowledge"] for each in told] == [[], ["medicine"]]
    found = [sequence[f"evaluate {name}"].file("evaluation.parquet").read_bytes() for name in ("before", "after law")]
    assert found[0] != found[1]
    model = sequence["train medicine+code"]
    page = Console(file=StringIO(), width=120)
    for shown in VIEWS["model"](model):
        page.print(shown)
    text = page.file.getvalue()  # type: ignore[attr-defined]
    assert "3 (task)" in text
    shares = averaged(model)
    assert set(shares.columns) == {"expert", "type", "medicine", "code"}
    assert shares["medicine"].sum() == pytest.approx(1)
    one, other = (draw(model, tmp_path / name).read_bytes() for name in ("one.svg", "other.svg"))
    assert one == other
    assert b"<svg" in one


def test_a_name_that_is_no_domain_is_refused_at_once(world: Path) -> None:
    with pytest.raises(SpecError, match=r"train\.adapter\.knowledge: no such domain; got medicin; did you mean 'medicine'"):
        read_recipe(world / "recipe.yaml", ["train.adapter={name: loramoe, knowledge: [medicin]}"])
    read_recipe(world / "recipe.yaml", ["only=[law, code]", "train.adapter={name: loramoe, knowledge: [medicine]}"])
