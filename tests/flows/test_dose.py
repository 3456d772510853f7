"""`replay budget`: every dose with every seed from one base model, resumed where it stood, and one answer with its interval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from composer.artifact import Store
from composer.errors import InputError, SpecError
from composer.progress import listener
from flows import dose
from flows.cli import invoke
from tests.conftest import small_recipe, write, write_world
from tests.heard import Heard

TASKS = ("law", "medicine")
ANSWERS = {"law": "court", "medicine": "fever"}


def write_recipe(folder: Path, **changes: Any) -> Path:
    """Write a recipe of tasks that a tiny model learns in a few steps: every question of a task has one answer."""
    write_world(folder)
    for task in TASKS:
        rows = [{"instruction": f"Say the word of {task}.", "input": f"case {i}", "output": ANSWERS[task]} for i in range(40)]
        write(folder / f"{task}.jsonl", rows)
    sources = [{"name": task, "path": f"{task}.jsonl", "domain": task, "license": "MIT"} for task in TASKS]
    train = {"adapter": "full", "batch_size": 8, "epochs": 5, "learning_rate": 5e-3, "threads": 1}
    recipe = small_recipe(
        root=str(folder), domains=list(TASKS), sources=sources, sequence=list(TASKS), law="proportional", replay="random",
        budget={"unit": "samples"}, embed=None, tags=None, probe=None, distance=None, train=train, **changes,
    )  # fmt: skip
    recipe["base_model"]["train"]["documents"] = 30
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """Two doses with two seeds: the recipe, what came out and what was said."""
    path, heard = write_recipe(tmp_path_factory.mktemp("budget")), Heard()
    token = listener.set(heard)
    document = dose.budget(path, accept=0.5, doses=(0, 40), n_seeds=2, store=None)
    listener.reset(token)
    return path, document, heard.lines


def test_replay_lowers_forgetting_and_the_dose_lies_between(found: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, document, _ = found
    none, much = document["doses"]
    assert (none["dose"], much["dose"]) == (0, 40)
    assert list(none["by_seed"]) == [3, 4]
    assert none["forgetting"] == pytest.approx(sum(none["by_seed"].values()) / 2)
    assert none["forgetting"] > 0.5 > much["forgetting"]
    answer = document["answer"]
    assert answer["reached"]
    assert 0 < answer["dose"] <= answer["per_task"] < answer["dose"] + 1 <= 41
    assert (answer["n_seeds"], answer["accept"]) == (2, 0.5)
    assert "forgetting of at most 0.5 from a dose of" in document["says"]
    assert "with 2 seeds an interval can hardly cover the truth in more than 50 % of cases" in document["warnings"]
    assert "does not cover another base model" in " ".join(document["note"].split())


def test_every_run_stands_in_the_recipes_store_and_starts_from_one_base(found: tuple[Path, dict[str, Any], list[str]]) -> None:
    path, document, lines = found
    store = Store(path.parent / "store")
    assert document["store"] == str(store.root)
    assert len(store.all("base")) == 1
    assert [(run["seed"], run["dose"]) for run in document["runs"]] == [(3, 0), (3, 40), (4, 0), (4, 40)]
    for run in document["runs"]:
        report = store.get(run["retention"]).json("retention.json")
        assert (run["forgetting"], tuple(run["left_out"])) == dose.forgetting(report)
    assert [line for line in lines if line.startswith("run ")] == [
        f"run {i} of 4: dose {run['dose']}, seed {run['seed']}" for i, run in enumerate(document["runs"], start=1)
    ]
    before = {store.get(run["retention"]).json("retention.json")["exact_match"][0][0] for run in document["runs"]}
    assert len(before) == 1  # of one model


def test_a_dose_that_the_tasks_cannot_give_is_told(found: tuple[Path, dict[str, Any], list[str]]) -> None:
    _, document, _ = found
    given = [run["replayed_per_task"] for run in document["runs"] if run["dose"]]
    assert all(20 < each < 40 for each in given)
    assert f"dose 40: the earlier tasks can give only {sum(given) / 2:.1f} each" in document["warnings"]
    assert [run["replayed_per_task"] for run in document["runs"] if not run["dose"]] == [0, 0]


def test_a_second_time_nothing_is_built_and_the_answer_is_the_same(found: tuple[Path, dict[str, Any], list[str]]) -> None:
    path, document, _ = found
    store = Store(path.parent / "store")
    before = {(artifact.kind, artifact.key) for artifact in store.all()}
    again = dose.budget(path, accept=0.5, doses=(40, 0), n_seeds=2, store=None)
    assert {(artifact.kind, artifact.key) for artifact in store.all()} == before
    assert [run["made"] for run in again["runs"]] == [0] * 4
    assert min(run["made"] for run in document["runs"]) > 0
    assert {key: again[key] for key in ("doses", "answer")} == {key: document[key] for key in ("doses", "answer")}
    stricter = dose.budget(path, accept=0.4, doses=(0, 40), n_seeds=2, store=None)
    assert {(artifact.kind, artifact.key) for artifact in store.all()} == before
    assert (stricter["answer"]["dose"] or 41) >= document["answer"]["dose"]


def test_the_command_prints_a_summary_or_json(
    found: tuple[Path, dict[str, Any], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, document, _ = found
    command = ["replay", "budget", str(path), "--accept", "0.5", "--doses", "0,40", "--seeds", "2"]
    assert invoke(command) == 0
    shown = capsys.readouterr().out
    for words in (
        "Forgetting by dose, samples of replay per earlier task (policy random)",
        "seed 3",
        "seed 4",
        document["says"],
        f"replay: {{name: random, per_task: {document['answer']['per_task']}}}",
        "4 runs, 0 steps done",
        "store:",
    ):
        assert words in shown, words
    assert invoke([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["answer"] == document["answer"]
    assert told["doses"][0]["by_seed"] == {str(seed): value for seed, value in document["doses"][0]["by_seed"].items()}


@pytest.mark.slow
def test_three_tasks_that_have_to_be_learned_by_heart(tmp_path: Path) -> None:
    write_world(tmp_path)
    train = {"adapter": "full", "batch_size": 8, "epochs": 30, "learning_rate": 5e-3, "threads": 1}
    recipe = small_recipe(
        root=str(tmp_path), sequence=["law", "medicine", "code"], probe=None, tags=None, law="proportional", replay="random",
        budget={"unit": "samples"}, train=train,
    )  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    document = dose.budget(tmp_path / "recipe.yaml", accept=0.5, doses=(0, 8), n_seeds=2, store=None)
    assert document["doses"][0]["forgetting"] > 0.9
    assert document["doses"][1]["forgetting"] < 0.5
    assert 0 < document["answer"]["dose"] < 8


def report(before: list[list[str]], rates: dict[str, float | None]) -> dict[str, Any]:
    return {"current": before, "forgetting": {task: {"exact_match_rate": rate} for task, rate in rates.items()}}


def test_forgetting_is_the_mean_over_the_tasks_before_the_last_stage() -> None:
    groups = [[], ["a"], ["b", "c"], ["d"]]
    rates = {"a": 50.0, "b": -20.0, "c": 30.0, "d": 90.0, "old": 70.0}
    assert dose.forgetting(report(groups, rates)) == (pytest.approx((0.5 - 0.2 + 0.3) / 3), ())
    assert dose.forgetting(report(groups, {**rates, "b": None})) == (pytest.approx(0.4), ("b",))
    del rates["c"]  # never measured
    assert dose.forgetting(report(groups, rates)) == (pytest.approx(0.15), ("c",))
    assert dose.forgetting(report([[], ["a"], ["b"], ["a"]], {"a": 0.0, "b": 100.0})) == (1.0, ())


def test_a_run_that_learned_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"evaluate: no task was learned, so none can be forgotten; .* got a, b; train longer"):
        dose.forgetting(report([[], ["a"], ["b"], ["c"]], {"a": None, "b": None, "c": 0.0}))


def test_what_was_replayed_is_read_off_the_schedule() -> None:
    def phase(amount: int, current: list[str], **shares: float) -> dict[str, Any]:
        return {"amount": amount, "current": current, "mixture": {"domains": list(shares), "weights": list(shares.values())}}

    phases = [phase(100, ["a"], a=1.0), phase(120, ["b", "z"], b=5 / 6, z=0.0, a=1 / 6), phase(200, ["c"], c=0.8, a=0.1, b=0.1)]
    assert dose._replayed({"phases": phases}, earlier=()) == pytest.approx((20 + 40) / 3)
    assert dose._replayed({"phases": phases[:1]}, earlier=()) == 0
    assert dose._replayed({"phases": [phase(100, ["a"], a=0.9, old=0.1)]}, earlier=("old",)) == pytest.approx(10)


def test_a_task_that_was_never_learned_is_told() -> None:
    fields = {"replayed_per_task": 5.0, "retention": "retention/0", "made": 1}
    trials = [dose.Trial(dose=d, seed=s, forgetting=0.5, left_out=("law",) if d else (), **fields)
              for d in (0, 5) for s in range(6)]  # fmt: skip
    assert dose._warnings(trials, n_seeds=6) == [
        "left out as never learned, 6 times: law (dose 5, seed 0), law (dose 5, seed 1), law (dose 5, seed 2) ..."
    ]


@pytest.mark.parametrize(("overrides", "says"), [
    (["sequence=[]"], "sequence: nothing is forgotten without a sequence; expected two groups or more; got 1 group of domains"),
    (["sequence=[[law, medicine]]"], "sequence: nothing is forgotten without a sequence"),
    (["replay=none"], r"replay: this recipe replays nothing; name a policy, such as replay\.name=random"),
    (["train=null"], "train: this recipe trains nothing; got null; say how to train"),
])  # fmt: skip
def test_a_recipe_that_cannot_answer_is_refused(tmp_path: Path, overrides: list[str], says: str) -> None:
    path = write_recipe(tmp_path)
    with pytest.raises(SpecError, match=says):
        dose.budget(path, overrides, accept=0.2, doses=(0, 5), n_seeds=2, store=None)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("options", "says"), [
    (["--accept", "1"], "--accept: not a share of forgetting to accept; expected 0 or more and below 1; got 1.0"),
    (["--accept", "-0.1"], "--accept: not a share of forgetting to accept"),
    (["--accept", "nan"], "--accept: not a share of forgetting to accept"),
    (["--doses", "5"], "--doses: not a list of doses; expected different whole numbers, such as 0,5,20; got 5"),
    (["--doses", "0,5,5"], "--doses: not a list of doses"),
    (["--doses", "0,-5"], "--doses: not a list of doses"),
    (["--doses", "0,2.5"], "--doses: not a list of doses"),
    (["--doses", ""], "--doses: not a list of doses"),
    (["--seeds", "1"], "--seeds: too few seeds for an interval; expected 2 or more; got 1"),
])  # fmt: skip
def test_a_design_without_a_curve_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    path = write_recipe(tmp_path)
    defaults = [] if "--doses" in options else ["--doses", "0,5"]
    assert invoke(["replay", "budget", str(path), *defaults, *options]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_the_stage_of_the_same_first_word_is_still_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["replay", str(write_recipe(tmp_path)), "--dry-run", "--json"]) == 0
    assert [step["step"] for step in json.loads(capsys.readouterr().out)["steps"]][-1] == "replay"
    with pytest.raises(InputError, match="--doses: too few doses for a curve; expected 2 or more; got 1"):
        dose.budget(tmp_path / "recipe.yaml", accept=0.2, doses=(5, 5), n_seeds=2, store=None)
