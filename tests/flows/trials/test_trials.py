"""`trial`: arms beside the controls that belong to them, what they share done once, resumed run by run, told in words."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from composer.artifact import Artifact, Store
from composer.errors import InputError, SpecError
from composer.progress import listener
from flows.cli import invoke
from flows.pipeline import make_plan
from flows.recipe import read_recipe
from flows.trials import running
from flows.trials.arms import Arm, read_arm, read_arms
from flows.trials.design import Designed, design
from flows.trials.plan import trial_plan
from tests.conftest import small_recipe, write_world
from tests.flows.by_prefect import start
from tests.flows.started import started
from tests.heard import Heard

Done = tuple[Path, dict[str, Artifact]]
QUICK = {"embed": None, "tags": None, "probe": None, "distance": None, "law": "proportional"}


def lay(folder: Path, **changes: Any) -> Path:
    """Write the small world and a recipe without what a trial of laws does not need."""
    write_world(folder)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(small_recipe(root=str(folder), **{**QUICK, **changes}), sort_keys=False))
    return folder / "recipe.yaml"


def of(path: Path, *arms: Arm, **given: Any) -> Designed:
    return design(path, arms=arms, **{"seeds": 2, **given})


INVERSE = Arm(name="skewed", changes={"law": {"name": "explicit", "weights": {"law": 4, "medicine": 1, "code": 1}}})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """One arm with its two controls over two seeds: the recipe, what came out and what was said."""
    path, heard = lay(tmp_path_factory.mktemp("trial")), Heard()
    token = listener.set(heard)
    document = running.carried_out(of(path, INVERSE), Store(path.parent / "store"), plain=True)
    listener.reset(token)
    return path, document, heard.lines


def test_what_runs_share_is_done_once(found: tuple[Path, dict[str, Any], list[str]]) -> None:
    path, document, lines = found
    kinds = Counter(each.kind for each in Store(path.parent / "store").all())
    assert (kinds["base"], kinds["source"], kinds["samples"]) == (1, 6, 2)
    assert (kinds["model"], kinds["evaluation"], kinds["retention"], kinds["trial"]) == (6, 8, 6, 1)
    assert document["made"] == document["steps"] == sum(kinds.values())
    said = [line.partition(": ")[0] for line in lines if "steps done)" in line]
    assert said == [f"{arm}, seed {seed}" for seed in (3, 4) for arm in ("uniform", "proportional", "skewed")]


def test_a_run_of_an_arm_is_the_plain_run_of_its_recipe(found: tuple[Path, dict[str, Any], list[str]]) -> None:
    path, document, _ = found
    store = Store(path.parent / "store")
    plan = make_plan(read_recipe(path, ["law=uniform", "seed=3"]), store).until("retain")
    assert all(store.has(step.stage.kind, step.key) for step in plan)
    retained = next(step for step in plan if step.stage.name == "retain")
    losses = store.get(f"retention/{retained.key}").json("retention.json")["loss_nats_per_token"][-1]
    assert document["values"]["loss"]["uniform"][0] == pytest.approx(sum(losses) / 3)
    before = {json.dumps(each.json("retention.json")["loss_nats_per_token"][0]) for each in store.all("retention")}
    assert len(before) == 2, "the base and the held-out rows are those of the seed, for every arm"


def test_every_arm_is_compared_with_every_control_in_every_measure_there_is(
    found: tuple[Path, dict[str, Any], list[str]],
) -> None:
    _, document, _ = found
    pairs = [("skewed", "uniform"), ("skewed", "proportional")]
    assert {name: [(each["arm"], each["control"]) for each in told] for name, told in document["comparisons"].items()} == {
        "loss": pairs, "exact_match": pairs, "gain": pairs, "kept": [], "forgotten": [],
    }  # fmt: skip
    values = document["values"]["loss"]
    gap = sum(a - b for a, b in zip(values["skewed"], values["uniform"], strict=True)) / 2
    assert document["comparisons"]["loss"][0]["found"]["difference"] == pytest.approx(gap)
    assert [verdict.split(" in loss")[0].split(" ")[0] for verdict in document["verdicts"]] == ["skewed"] * 2
    assert {arm: round(each["loss_tokens"]) for arm, each in document["trained"].items()}.keys() == set(values)
    assert all(each["cpu_seconds"] > 0 for each in document["spent"].values())


def test_a_second_time_nothing_is_done_and_what_was_lost_is_done_alone(
    found: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    path, document, _ = found
    shutil.copytree(path.parent / "store", tmp_path / "store")
    store = Store(tmp_path / "store")
    trial = of(path, INVERSE)
    again = running.carried_out(trial, store, plain=True)
    same = ("values", "verdicts", "comparisons", "trained", "spent", "trial")
    assert again["made"] == 0
    assert {name: again[name] for name in same} == {name: document[name] for name in same}
    lost = [step for step in trial_plan(trial, store) if step.label.endswith("(skewed, seed 4)")][-3:]
    assert [step.stage.name for step in lost] == ["train", "evaluate", "retain"]
    for step in (*lost, next(step for step in trial_plan(trial, store) if step.stage.name == "trial")):
        shutil.rmtree(store.root / step.stage.kind / step.key)
    assert running.preview(trial, store)["to_do"] == {"train": 1, "evaluate": 1, "retain": 1, "trial": 1}
    assert running.preview(trial, store)["seconds"] > 0
    mended = running.carried_out(trial, store, plain=True)
    assert mended["made"] == 4
    assert mended["values"] == document["values"]
    more = running.preview(of(path, INVERSE, seeds=3), store)["to_do"]
    assert (more["train"], more["pool"], more.get("base")) == (3, 1, None), "a third seed costs its own runs alone"


def test_the_command_prints_a_summary_or_json_and_show_prints_it_again(
    found: tuple[Path, dict[str, Any], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, document, _ = found
    command = ["trial", str(path), "--arm", "skewed 'law={name: explicit, weights: {law: 4, medicine: 1, code: 1}}'"]
    command += ["--seeds", "2", "--plain"]
    assert invoke(command) == 0
    shown = capsys.readouterr().out
    assert all(verdict in shown.replace("\n", " ") for verdict in document["verdicts"])
    assert document["trial"] in shown
    assert invoke([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdicts"], told["made"]) == (document["verdicts"], 0)
    assert invoke(["show", "trial", "--store", str(path.parent / "store")]) == 0
    assert "skewed - proportional" in capsys.readouterr().out
    assert invoke([*command, "--dry-run"]) == 0
    assert "0 of" in capsys.readouterr().out
    assert invoke(["trial", str(path), "--arms", "law=uniform", "--plain"]) == 2
    assert "these arms are the controls" in capsys.readouterr().err


def test_a_dry_run_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lay(tmp_path)
    assert invoke(["trial", str(path), "--arm", "long train.epochs=2", "--seeds", "3", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(arm["name"], bool(arm["why"])) for arm in told["design"]["arms"]] == [
        ("recipe", True), ("lower rate", True), ("long", False),
    ]  # fmt: skip
    assert (told["runs"], told["to_do"]["train"], told["to_do"]["evaluate"], told["to_do"]["base"]) == (9, 9, 12, 1)
    assert told["seconds"] is None
    assert not (tmp_path / "store").exists()


def controls_of(path: Path, *arms: Arm) -> dict[str, dict[str, Any]]:
    return {arm.name: arm.changes for arm in of(path, *arms).design.arms if arm.is_control}


def test_the_controls_are_those_of_what_the_arms_vary(tmp_path: Path) -> None:
    sequence = {"sequence": ["law", "medicine", "code"], "replay": {"name": "random", "per_task": 5}}
    path = lay(tmp_path, **sequence, embed={"name": "lexical", "dims": 8})
    replay = controls_of(path, *read_arms("replay=spread"), read_arm("far replay.name=coverage"))
    assert list(replay) == ["random", "stratified", "padding", "lower rate"]
    assert [changes["replay"] for changes in replay.values()] == [
        {"name": "random", "per_task": 5}, {"name": "stratified", "per_task": 5}, {"name": "padding", "per_task": 5}, "none",
    ]  # fmt: skip
    assert replay["lower rate"]["train.learning_rate"] == read_recipe(path).train.learning_rate / 2
    assert list(controls_of(path, *read_arms("train.adapter=lora,osf"))) == ["full", "lower rate"]
    assert list(controls_of(path, *read_arms("train.learning_rate=0.1"))) == ["recipe", "lower rate"]
    assert list(controls_of(path, *read_arms("select=spread"))) == ["random rows"]
    assert list(controls_of(path, *read_arms("max_length=32"))) == ["recipe"]
    laws = {"law": {"name": "explicit", "weights": {"law": 1, "code": 2, "medicine": 1}}, "train.epochs": 2}
    assert list(controls_of(path, Arm(name="both", changes=laws))) == ["uniform", "proportional", "lower rate"]


def test_padding_trains_as_long_as_replay_does_on_the_new_alone(tmp_path: Path) -> None:
    path = lay(tmp_path, sequence=["law", "medicine"], domains=["law", "medicine"], only=["law", "medicine"],
               replay={"name": "random", "per_task": 5}, budget={"unit": "samples"}, base_model={"path": "base"})  # fmt: skip
    from composer.replay.schedule import plan
    from composer.types import Mixture

    trial = of(path, Arm(name="spread", changes={"replay.name": "spread"}))
    made = {}
    for arm in trial.design.arms:
        recipe = trial.recipe_of(arm, 3)
        mixture = Mixture(domains=("law", "medicine"), weights=(0.5, 0.5), unit="samples")
        made[arm.name] = plan(
            recipe.groups, mixture=mixture, supply={"law": 30, "medicine": 30}, earlier=(), policy=recipe.replay,
            budget=recipe.budget, similarity=None,
        )  # fmt: skip
    assert [phase.amount for phase in made["padding"].phases] == [phase.amount for phase in made["random"].phases] == [30, 35]
    assert made["padding"].phases[1].mixture.domains == ("medicine",)
    assert [phase.amount for phase in made["lower rate"].phases] == [30, 30]


def test_an_arm_that_is_a_control_is_that_control(tmp_path: Path) -> None:
    path = lay(tmp_path)
    arms = of(path, Arm(name="flat", changes={"law": "uniform"}), INVERSE).design.arms
    assert [(arm.name, arm.why != "") for arm in arms] == [("flat", True), ("proportional", True), ("skewed", False)]


def test_the_recipe_may_say_it_all(tmp_path: Path) -> None:
    told = {"arms": {"hot": {"train.learning_rate": 1e-5}}, "measure": "loss.law", "worth": 0.2, "seeds": 4, "vary_base": True}
    path = lay(tmp_path, trial=told)
    made = design(path)
    assert (made.design.measure, made.design.worth, made.design.seeds) == ("loss.law", 0.2, (3, 4, 5, 6))
    assert made.recipe_of(made.design.arms[-1], 5).train.learning_rate == 1e-5
    assert [made.base_seed(seed) for seed in made.design.seeds] == [3, 4, 5, 6]
    plan = trial_plan(made, Store(tmp_path / "store"))
    assert sum(step.stage.name == "base" for step in plan) == 4
    assert read_recipe(path).identity() == read_recipe(lay(tmp_path)).identity(), "a trial is no part of what a recipe makes"


@pytest.mark.slow
def test_in_processes_of_their_own_runs_leave_the_same_bytes(
    found: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    path, document, _ = found
    made = of(lay(tmp_path, runner={"name": "process", "workers": 2}), INVERSE)
    again = running.carried_out(made, Store(tmp_path / "store"), plain=True)
    assert (again["trial"], again["values"], again["made"]) == (document["trial"], document["values"], document["made"])
    files = [
        {(each.kind, each.key): each.manifest.files for each in Store(at / "store").all()} for at in (path.parent, tmp_path)
    ]
    assert files[0] == files[1]


@pytest.mark.prefect
def test_a_trial_of_adapters_gives_the_same_as_a_prefect_flow(tmp_path: Path) -> None:
    path = lay(tmp_path)
    trial = ["trial", "recipe.yaml", "--arms", "train.adapter=lora,lota", "--seeds", "2", "--json"]
    told = {}
    for store, how in (("plain", ["--plain"]), ("flow", [])):
        done = start(path.parent, tmp_path / "home", "-m", "flows", *trial, "--store", str(tmp_path / store), *how)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "could not" not in done.stderr, "a page or an artifact of the flow was not left"
        told[store] = json.loads(done.stdout)
    assert [arm["name"] for arm in told["flow"]["design"]["arms"]] == ["full", "lower rate", "lora", "lota"]
    files = [{(each.kind, each.key): each.manifest.files for each in Store(tmp_path / store).all()} for store in told]
    assert files[0] == files[1]
    same = ("trial", "values", "comparisons", "verdicts", "steps", "made")
    assert {name: told["flow"][name] for name in same} == {name: told["plain"][name] for name in same}


@pytest.mark.slow
def test_a_trial_that_is_killed_goes_on_with_what_is_missing(
    found: tuple[Path, dict[str, Any], list[str]], tmp_path: Path
) -> None:
    _, document, _ = found
    lay(tmp_path, trial={"arms": {INVERSE.name: INVERSE.changes}, "seeds": 2})
    store, complete = Store(tmp_path / "store"), dict[Path, float]()
    for n_models in (1, 4):
        process = started(tmp_path, "trial")
        end = time.time() + 200
        while len(store.all("model")) < n_models and process.poll() is None and time.time() < end:
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()[1]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert n_models <= len(store.all("model")) < 6
        for artifact in store.all():
            assert complete.setdefault(artifact.path, made := artifact.manifest.made["at"]) == made, "it was done again"
    out, err = started(tmp_path, "trial").communicate(timeout=250)
    told = json.loads(out)
    assert told["made"] == told["steps"] - len(complete), err
    assert all(store.get(f"{path.parent.name}/{path.name}").manifest.made["at"] == at for path, at in complete.items())
    assert (told["trial"], told["values"], told["verdicts"]) == tuple(document[of] for of in ("trial", "values", "verdicts"))


@pytest.mark.parametrize(
    ("arms", "given", "says"),
    [
        ([], {}, "a trial without arms"),
        ([Arm(name="a", changes={"law": "uniform"})], {}, "nothing to judge: these arms are the controls; got a"),
        ([INVERSE, Arm(name="twin", changes=INVERSE.changes)], {}, "two arms are alike; got skewed and twin"),
        ([INVERSE, INVERSE], {}, "two arms share a name"),
        ([Arm(name="uniform", changes=INVERSE.changes)], {}, "two arms share a name; got uniform; controls have names, too"),
        ([INVERSE], {"seeds": 1}, "too few seeds for an interval"),
        ([INVERSE], {"measure": "kept"}, "nothing is forgotten without a sequence"),
        ([INVERSE], {"measure": "loss.low"}, "measure: no such domain; got low; did you mean 'law'"),
        ([INVERSE], {"measure": "lost"}, "no such measure; got lost; did you mean 'loss'"),
        ([Arm(name="odd", changes={"laws": 1})], {}, "arm 'odd'.laws: unknown field of Recipe; did you mean 'law'"),
    ],
)
def test_what_cannot_be_tried_is_refused(arms: list[Arm], given: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        of(lay(tmp_path), *arms, **given)


def test_laws_without_a_budget_and_recipes_without_training_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"budget.amount: laws cannot differ"):
        of(lay(tmp_path, budget={"unit": "samples"}), INVERSE)
    with pytest.raises(SpecError, match="train: this recipe trains nothing"):
        of(lay(tmp_path, train=None), INVERSE)
