"""Phase after phase: a law weighs every phase of several domains, what is stopped goes on, and what was kept is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from composer import tables
from composer.artifact import Artifact, Store
from composer.errors import SpecError
from composer.progress import Silence, listener
from composer.train.adapters.full import Full
from flows.cli import app
from flows.pipeline import make_plan
from flows.recipe import read_recipe
from flows.shell import carry_out

Done = tuple[Path, dict[str, Artifact]]
PHASES = ("law", "medicine", "code")
SEQUENCE = (
    "sequence=[law, medicine, code]", "probe=null", "law=proportional", "budget={unit: samples}",
    "replay={name: random, per_task: 12}",
)  # fmt: skip
LAW = "train.law={name: potential, every: 2, floor: 0.05}"
REFERENCE = "train.reference={epochs: 1, rows: 8}"


class Stopped(BaseException):
    """Stands for a kill: nothing catches it."""


class Ears(Silence):
    """Remembers what is said."""

    def __init__(self) -> None:
        self.said = list[str]()

    def say(self, line: str) -> None:
        self.said.append(line)


def settings(done: Done, world: Path, *more: str) -> list[str]:
    base = json.dumps(str(done[1]["base"].path / "model"))
    return [f"root={json.dumps(str(world))}", f"base_model={{path: {base}}}", *SEQUENCE, *more]


def carried_out(done: Done, world: Path, *more: str, store: str = "store") -> tuple[list[str], dict[str, Artifact]]:
    where, ears = Store(world / store), Ears()
    plan = make_plan(read_recipe(world / "recipe.yaml", settings(done, world, *more)), where)
    token = listener.set(ears)
    try:
        return ears.said, carry_out(plan.until("retain"), where, plain=True)
    finally:
        listener.reset(token)


def looks(artifact: Artifact) -> pl.DataFrame:
    return tables.read(artifact.file("weights.parquet"), tables.WEIGHTS)


@pytest.mark.parametrize("policy", ["random", pytest.param("loss", marks=pytest.mark.slow)])
def test_a_law_weighs_every_phase_of_several_domains(done: Done, world: Path, policy: str) -> None:
    said, made = carried_out(done, world, f"replay={{name: {policy}, per_task: 12}}", LAW, REFERENCE)
    assert [line for line in said if "nothing to weigh" in line] == [
        "law is trained on alone: the law potential has nothing to weigh"
    ]
    assert "weights.parquet" not in made["train law"].manifest.files
    references = made["reference"].manifest.stats["domains"]
    assert set(references) == set(PHASES)
    for i in (1, 2):
        own = looks(made[f"train {PHASES[i]}"])
        assert set(own["domain"]) == set(PHASES[: i + 1])
        assert own.group_by("step").agg(pl.col("weight").sum())["weight"].to_list() == pytest.approx(
            [1] * own["step"].n_unique()
        )
        assert dict(own.filter(step=0).select("domain", "reference_nats").iter_rows()) == pytest.approx(
            {domain: references[domain] for domain in PHASES[: i + 1]}
        )
        shares = made["compose" if policy == "random" else f"compose {PHASES[i]}"].json("report.json")["phases"][i]["domains"]
        begun = dict(own.filter(step=0).select("domain", "weight").iter_rows())
        assert begun == pytest.approx({share["domain"]: max(share["planned_share"], 0.05) for share in shares}, abs=0.03)
        assert made[f"train {PHASES[i]}"].manifest.stats["samples"] == sum(share["rows"] for share in shares)
    kept = made["retain"].json("retention.json")
    assert [each["stage"] for each in kept["relative_gain"]] == ["before", *PHASES]


@pytest.mark.parametrize("more", [(), pytest.param((LAW, REFERENCE), marks=pytest.mark.slow)])
def test_a_sequence_that_is_stopped_in_any_phase_goes_on_where_it_stood(
    done: Done, world: Path, more: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = "train.checkpoint_every=2"
    _, whole = carried_out(done, world, *more, every, store="whole")
    steps = [whole[f"train {phase}"].manifest.stats["steps"] for phase in PHASES]
    short = 3 if more else 0  # steps of the reference's three short runs, of one step each
    for stop in (short + 3, short + steps[0] + 3, short + sum(steps[:2]) + 5):
        with monkeypatch.context() as patched:
            stop_at(stop - taken(world / "store", short), patched)
            with pytest.raises(Stopped):
                carried_out(done, world, *more, every)
    said, made = carried_out(done, world, *more, every)
    assert [line.partition(", from")[0] for line in said if "goes on" in line] == ["training goes on after step 4"]
    assert {label: each.manifest.files for label, each in made.items()} == {
        label: each.manifest.files for label, each in whole.items()
    }


def stop_at(steps: int, patched: pytest.MonkeyPatch) -> None:
    count = 0

    def after_step(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == steps:
            raise Stopped

    patched.setattr(Full, "after_step", after_step)


def taken(store: Path, short: int) -> int:
    """How many steps are behind: those of all that is complete, and of the last checkpoint."""
    complete = [each for kind in ("model", "reference") for each in (Store(store).all(kind) if store.exists() else ())]
    steps = sum(each.manifest.stats.get("steps", short) for each in complete)
    return steps + max((int(path.name.partition("-")[2]) for path in store.rglob("checkpoint-*")), default=0)


def test_a_law_that_fits_no_phase_is_refused_before_anything_is_done(done: Done, world: Path) -> None:
    def read(*more: str) -> None:
        read_recipe(world / "recipe.yaml", settings(done, world, *more))

    with pytest.raises(SpecError, match=r"train\.law\.target: no such domain, in the phase of law, medicine; got code"):
        read("train.law={name: expansion, target: code}", REFERENCE)
    with pytest.raises(SpecError, match=r"train\.law: nothing to weigh: no phase trains on two domains; give several"):
        read("replay=none", LAW, REFERENCE)
    with pytest.raises(SpecError, match=r"train\.reference\.given: no reference loss; .* got medicine"):
        read(LAW, "train.reference={given: {law: 1.0, code: 1.0}}")
    read("train.law={name: expansion, target: law}", REFERENCE)


def test_train_sequence_is_the_story_up_to_what_was_kept(done: Done, world: Path) -> None:
    def told(*words: str) -> Any:
        return CliRunner().invoke(app, ["train", str(world / "recipe.yaml"), *words, "--plain", "--json"])

    given = settings(done, world, "train.batch_size=16")
    ran = told(*given, "--sequence")
    assert ran.exit_code == 0, ran.output
    labels = [step["step"] for step in json.loads(ran.stdout)["steps"]]
    assert labels[-1] == "retain"
    assert [label for label in labels if label.startswith("evaluate")] == [
        "evaluate before", *(f"evaluate after {phase}" for phase in PHASES)
    ]  # fmt: skip
    alone = json.loads(told(*given).stdout)["steps"]
    assert not [step["step"] for step in alone if step["step"].startswith("evaluate")]
    assert {step["state"] for step in alone} == {"present"}
    refused = told("--sequence")
    assert str(refused.exception).startswith("sequence: nothing follows on one another in this recipe; give the groups in")
