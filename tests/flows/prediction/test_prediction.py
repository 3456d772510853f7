"""`predict`: short runs laid out by what data there is, done once and resumed, their law, and a proposal that is an arm."""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from composer.artifact import Store
from composer.errors import InputError, SpecError
from composer.progress import listener
from flows.cli import invoke
from flows.pipeline import make_plan
from flows.prediction import running
from flows.prediction.design import Asked, SmallRuns, asked
from flows.prediction.plan import sizes_of
from flows.prediction.stage import predict
from flows.recipe import read_recipe
from flows.trials.arms import Arm, read_arm
from flows.trials.design import design as trial_design
from tests.conftest import small_recipe, write_world
from tests.heard import Heard

QUICK = {"embed": None, "tags": None, "distance": None, "law": {"name": "knowledge", "floor": 0.1}}
DOMAINS = ("law", "medicine", "code")
LEVELS = {"name": "levels", "levels": [[0, {"law": 1, "medicine": 1, "code": 1}]]}
Found = tuple[Path, dict[str, Any], list[str]]


def lay(folder: Path, **changes: Any) -> Path:
    """Write the small world and a recipe without what short runs do not need."""
    write_world(folder)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(small_recipe(root=str(folder), **{**QUICK, **changes}), sort_keys=False))
    return folder / "recipe.yaml"


def wanted(path: Path, **given: Any) -> Asked:
    return asked(path, **{"runs": 6, "budget_share": 0.5, **given})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Six short runs: the recipe, what came out and what was said."""
    path, heard = lay(tmp_path_factory.mktemp("predict")), Heard()
    token = listener.set(heard)
    document = running.carried_out(wanted(path), Store(path.parent / "store"), plain=True)
    listener.reset(token)
    return path, document, heard.lines


def test_what_short_runs_share_is_done_once_and_no_probe_is_asked(found: Found) -> None:
    path, document, lines = found
    kinds = Counter(each.kind for each in Store(path.parent / "store").all())
    assert (kinds["base"], kinds["samples"], kinds["model"], kinds["retention"], kinds["prediction"]) == (1, 1, 6, 6, 1)
    assert kinds["knowledge"] == 0
    said = [line.partition(": ")[0] for line in lines if "steps done)" in line]
    assert said == ["uniform", "proportional", "run 1", "run 2", "run 3", "run 4"]
    assert [run["name"] for run in document["runs"]] == said
    assert document["made"] == document["steps"] == sum(kinds.values())


def test_a_run_is_the_plain_run_of_its_recipe_and_its_shares_are_those_that_came(found: Found) -> None:
    path, document, _ = found
    store, arm = Store(path.parent / "store"), document["design"]["runs"][2]
    overrides = ["seed=1003", "budget.amount=100", "probe=null", f"law={json.dumps(arm['changes']['law'])}"]
    plan = make_plan(read_recipe(path, overrides), store, base_seed=3).until("retain")
    assert all(store.has(step.stage.kind, step.key) for step in plan)
    composed = next(step for step in plan if step.stage.name == "compose")
    report = store.get(f"composition/{composed.key}").json("report.json")
    told = document["runs"][2]
    assert told["shares"] == pytest.approx([each["realised_share"] for each in report["domains"]])
    retained = store.get(f"retention/{plan.steps[-1].key}").json("retention.json")
    assert told["values"] == retained["loss_nats_per_token"][-1]
    assert told["objective"] == pytest.approx(np.mean(told["values"]))


def test_the_runs_keep_the_floor_and_what_the_data_allows(found: Found) -> None:
    path, document, _ = found
    design = SmallRuns(**document["design"])
    sizes = sizes_of(wanted(path), Store(path.parent / "store"))
    assert sizes is not None
    assert design.caps == pytest.approx([min(1, 3 * size / 200) for size in sizes], abs=1e-6)
    for arm in design.runs[2:]:
        weights = arm.changes["law"]["weights"]
        assert sum(weights.values()) == pytest.approx(1)
        assert all(0.1 <= weights[domain] <= cap + 1e-9 for domain, cap in zip(DOMAINS, design.caps, strict=True))
    assert (design.seed, design.amount, design.whole, design.floor) == (1003, 100, 200, 0.1)


def test_a_second_time_nothing_is_done_and_what_was_lost_is_done_alone(found: Found, tmp_path: Path) -> None:
    path, document, _ = found
    shutil.copytree(path.parent / "store", tmp_path / "store")
    store = Store(tmp_path / "store")
    again = running.carried_out(wanted(path), store, plain=True)
    assert (again["made"], again["prediction"], again["runs"]) == (0, document["prediction"], document["runs"])
    shutil.rmtree(tmp_path / "store" / "prediction")
    planned = running.preview(wanted(path), store)
    assert (planned["pooled"], planned["to_do"]) == (True, {"predict": 1})
    mended = running.carried_out(wanted(path, measure="exact_match"), store, plain=True)
    assert mended["made"] == 1, "another measure costs no run"


def test_the_command_prints_a_verdict_and_show_prints_it_again(found: Found, capsys: pytest.CaptureFixture[str]) -> None:
    path, document, _ = found
    command = ["predict", str(path), "--runs", "6", "--budget-share", "0.5", "--plain"]
    assert invoke(command) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert " ".join(document["verdict"].split()) in shown
    assert document["prediction"] in shown
    assert invoke([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["proposal"], told["made"]) == (document["verdict"], document["proposal"], 0)
    assert invoke(["show", "prediction", "--store", str(path.parent / "store")]) == 0
    assert "Errors in 6 runs" in capsys.readouterr().out


def test_a_dry_run_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lay(tmp_path)
    assert invoke(["predict", str(path), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pooled"], len(told["design"]["runs"]), told["design"]["amount"]) == (False, 9, 50)
    assert (told["to_do"]["train"], told["to_do"]["pool"], told["to_do"]["base"], told["to_do"].get("probe")) == (9, 1, 1, None)
    assert invoke(["predict", str(path), "--dry-run"]) == 0
    assert "the data is not pooled yet" in capsys.readouterr().out.replace("\n", " ")
    assert not (tmp_path / "store").exists()


class Ran:
    """Stands for what a short run left: losses that follow a law, or do not."""

    def __init__(self, arm: Arm, losses: list[float | None]) -> None:
        weights = arm.changes["law"]["weights"] if isinstance(arm.changes["law"], dict) else dict.fromkeys(DOMAINS, 1 / 3)
        told = [{"domain": domain, "realised": round(1e6 * weights.get(domain, 0))} for domain in DOMAINS]
        self.told = {
            "retention.json": {
                "domains": DOMAINS,
                "loss_nats_per_token": [losses],
                "exact_match": [[x if x is None else 1 - x / 9 for x in losses]],
            },
            "report.json": {"domains": told},
        }
        self.manifest = self
        self.stats = {"n_loss_tokens": 100}

    def json(self, name: str) -> Any:
        return self.told[name]


def predicted(folder: Path, path: Path, losses: Any, **given: Any) -> dict[str, Any]:
    """What the stage makes of runs with these losses, as functions of their weights."""
    design = wanted(path, runs=9, **given).designed((400, 400, 400)).design
    ran = {}
    for arm in design.runs:
        one = Ran(arm, [0.0] * 3)
        shares = np.array([each["realised"] for each in one.told["report.json"]["domains"]]) / 1e6
        ran[arm.name] = (made := Ran(arm, list(map(float, losses(shares)))), made, made)
    predict(folder, design=design, **ran)  # type: ignore[arg-type]
    return json.loads((folder / "prediction.json").read_text())  # type: ignore[no-any-return]


def planted(shares: Any) -> Any:
    return 1 + np.exp(np.array([[-4.0, 0.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, -1.0]]) @ shares)


@pytest.mark.parametrize("measure", ["loss", "exact_match"])
def test_a_planted_law_proposes_its_best_mixture_as_an_arm_that_a_trial_takes(measure: str, tmp_path: Path) -> None:
    path = lay(tmp_path / "world")
    found = predicted(tmp_path, path, planted, measure=measure)
    weights = [found["proposal"]["weights"][domain] for domain in DOMAINS]
    best = min(
        planted(np.array([a, b, 1 - a - b])).mean() for a in np.linspace(0.1, 0.8, 71) for b in np.linspace(0.1, 0.9 - a, 71)
    )
    assert planted(np.array(weights)).mean() == pytest.approx(best, abs=1e-3)
    said = found["proposal"]["predicted"]
    assert said == pytest.approx(best if measure == "loss" else 1 - best / 9, abs=1e-3)
    low, high = found["proposal"]["interval"]
    assert low <= said <= high
    told = running.told(found)
    assert "better than the mean" in told["verdict"]
    assert "It lies inside the runs" in told["proposed"]
    [_, text] = shlex.split(told["paste"])
    arm = read_arm(text)
    assert arm.changes["law"]["weights"] == dict(zip(DOMAINS, weights, strict=True))
    assert trial_design(path, arms=[arm], seeds=2).design.controls == ("uniform", "proportional")


def test_one_domain_may_be_the_objective(tmp_path: Path) -> None:
    found = predicted(tmp_path, lay(tmp_path / "world"), planted, objective="law")
    assert found["proposal"]["weights"] == {"law": 0.8, "medicine": 0.1, "code": 0.1}
    assert [run["objective"] for run in found["runs"]] == [run["values"][0] for run in found["runs"]]


def test_runs_without_a_law_propose_nothing_and_say_so(tmp_path: Path) -> None:
    dice = np.random.default_rng(4)
    found = predicted(tmp_path, lay(tmp_path / "world"), lambda _: 2 + dice.normal(0, 0.1, 3))
    assert found["proposal"] is None
    told = running.told(found)
    assert "no mixture is proposed" in told["verdict"]
    assert (told["proposed"], told["arm"], told["paste"]) == (None, None, None)


def test_doubt_and_unlike_amounts_are_said() -> None:
    runs = [{"name": name, "loss_tokens": n} for name, n in (("uniform", 100), ("run 1", 60))]
    proposal = {"predicted": 1.0, "interval": None, "controls": {"uniform": 1.05, "proportional": 1.2}, "outside": 0.02,
                "leverage": 0.5, "largest_leverage": 0.4, "weights": {"a": 0.5, "b": 0.5}}  # fmt: skip
    found = {"design": {"measure": "loss", "amount": 50, "domains": ["a", "b"]}, "runs": runs}
    errors = {"error": 0.1, "error_of_mean": 0.11, "r2": 0.17, "p": 0.34}
    told = running.told({**found, "chosen": errors, "proposal": proposal})
    assert [each.split(":")[0] for each in told["warnings"]] == ["some trained on 100 loss tokens, but run 1 60"]
    assert "The gain of 0.050 on the better control is not larger than the error of a prediction" in told["proposed"]
    assert "outside the runs by 0.020 of the weight" in told["proposed"]
    doubted = running.told({**found, "chosen": errors, "proposal": None})["verdict"]
    assert "not known that the law predicts better" in doubted
    assert "luck alone would do as well with a probability of about 0.3" in doubted
    worse = running.told({**found, "chosen": {**errors, "r2": -0.2}, "proposal": None})["verdict"]
    assert "no better than the mean" in worse


def test_runs_without_a_measure_are_named(tmp_path: Path) -> None:
    design = wanted(lay(tmp_path), runs=9).designed(None).design
    ran = {arm.name: (one := Ran(arm, [1.0, None, 1.0]), one, one) for arm in design.runs}
    with pytest.raises(InputError, match=r"runs: some domains have no loss; got uniform, proportional, run 1"):
        predict(tmp_path, design=design, **ran)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "given", "says"),
    [
        ({"train": None}, {}, "train: this recipe trains nothing"),
        ({"budget": {"unit": "samples"}}, {}, "budget.amount: mixtures cannot differ"),
        ({"only": ["law"], "train": {"threads": 1}}, {}, "domains: one domain has no mixture"),
        ({"sequence": ["law", "medicine", "code"]}, {}, "sequence: a sequence has no one mixture"),
        ({"train": {"law": LEVELS}}, {}, "train.law: the weights move while it trains; got levels"),
        ({}, {"runs": 5}, "--runs: too few runs to tell a law from; expected 6 or more; got 5"),
        ({}, {"budget_share": 0.0}, "--budget-share: no share of the budget"),
        ({}, {"design": "d_optima"}, "--design: no such word; .* did you mean 'd_optimal'"),
        ({}, {"measure": "gain"}, "--measure: no such word"),
        ({}, {"objective": "laws"}, "--objective: no such word; .* did you mean 'law'"),
    ],
)
def test_what_cannot_be_predicted_is_refused(changes: dict[str, Any], given: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises((InputError, SpecError), match=says):
        wanted(lay(tmp_path, **changes), **given)
