"""What can be said of a push without a hub: options, names, licences, and what would be sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from composer.artifact import Store
from composer.errors import CheckError, SpecError
from composer.export.hub import Repository
from flows.cli import invoke
from flows.pipeline import make_plan
from flows.publish import Publication, publication, told_conflicts
from flows.publishable import _last_training, dataset, rests_on
from flows.recipe import read_recipe


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_options_of_a_push_need_one() -> None:
    assert publication(None, kind="dataset", public=False, revision=None) is None
    with pytest.raises(SpecError, match="--public: only with --hub"):
        publication(None, kind="dataset", public=True, revision=None)
    with pytest.raises(SpecError, match="--revision: only with --hub"):
        publication(None, kind="model", public=False, revision="v2")


def test_conflicts_stop_with_their_sources() -> None:
    push = Publication(Repository("org/name"), dataset)
    push.refuse({"conflicts": told_conflicts({"MIT": {"a": 1}, "CC-BY-SA-4.0": {"b": 2}})})
    told = told_conflicts({"unknown": {"b": 1, "a": 2}, "CC-BY-SA-4.0": {"c": 2}, "CC-BY-NC-4.0": {"d": 2}})
    assert [each["sources"] for each in told] == [["d"], ["c", "d"], ["a", "b"]]
    expected = r"license_conflicts: .*\(and 2 more, see --dry-run\); got CC-BY-NC-4.0 of d; .*license_conflicts: allow"
    with pytest.raises(CheckError, match=expected):
        push.refuse({"conflicts": told})


@pytest.mark.parametrize("command", ["export", "train"])
def test_a_dry_run_without_a_hub_says_what_would_be_sent(
    command: str, done: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, made = done
    given = [command, str(folder / "recipe.yaml"), "--store", str(folder / "store"), "--hub", "org/name", "--dry-run"]
    assert invoke([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["hub"]
    sent = {each["path"]: each["sha256"] for each in told["send"]}
    artifact, below = (made["export"], "") if command == "export" else (made["train"], "model/")
    files = {name.removeprefix(below): each.sha256 for name, each in artifact.manifest.files.items() if name.startswith(below)}
    files.pop("README.md", None)
    assert files.items() <= sent.items()
    assert sent.keys() - files.keys() == {"README.md", "sft-composer.json"}
    assert (told["visibility"], told["is_new"], told["conflicts"]) == ("private", True, [])
    assert "not looked at" in told["note"]
    assert invoke(given) == 0
    assert "Nothing was sent." in capsys.readouterr().out


def test_a_push_that_cannot_be_sent_is_refused_before_any_work(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(world / "recipe.yaml"), "--store", str(world / "store"), "--hub", "org/name", "--plain"]
    assert invoke(["export", *given]) == 2
    assert "HF_HUB_OFFLINE: the Hub's client is told to stay offline" in capsys.readouterr().err
    assert not (world / "store").exists()


def test_of_a_sequence_the_last_phase_is_pushed_and_no_upper_bound(world: Path) -> None:
    given = ["sequence=[law, [code, medicine]]", "evaluate.experts=true", "probe=null", "law=uniform"]
    plan = make_plan(read_recipe(world / "recipe.yaml", given), Store(world / "store"))
    assert {"train law", "train code+medicine", "train code+medicine alone"} <= {step.label for step in plan}
    assert _last_training(plan).label == "train code+medicine"
    whole = make_plan(read_recipe(world / "recipe.yaml", given[2:]), Store(world / "store"))
    assert _last_training(whole).label == "train"


def test_what_an_adapter_rests_on_is_known_by_its_artifact(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    trained, elsewhere = done[1]["train"].path, Store(tmp_path / "elsewhere")
    found = rests_on(trained, elsewhere)
    assert {licence: sum(sources.values()) for licence, sources in found.items()} == {
        "MIT": done[1]["compose"].manifest.files["composition.parquet"].rows
    }
    assert rests_on(trained / "model", elsewhere) == found
    (tmp_path / "copied").mkdir()
    assert rests_on(tmp_path / "copied", elsewhere) == {"unknown": {"copied": 0}}
