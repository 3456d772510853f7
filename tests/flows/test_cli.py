"""The command line: one JSON document on stdout, one clear line per error, the promised exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli import invoke
from flows.command import STAGE_COMMANDS
from flows.stages import STAGES


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    code = invoke([str(argument) for argument in arguments])
    seen = capsys.readouterr()
    return code, json.loads(seen.out) if "--json" in arguments else seen.out, seen.err


def test_the_commands_are_the_stages() -> None:
    assert list(STAGE_COMMANDS) == [name for name in STAGES if name not in {"report", "trial", "predict"}]
    for name, summary in STAGE_COMMANDS.items():
        assert summary.split(";")[0].split()[0] == STAGES[name].summary.split()[0], name


def test_run_show_why_and_list(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ("--store", world / "store", "--json")
    code, planned, _ = call(capsys, "run", world / "recipe.yaml", "--dry-run", *store)
    assert code == 0
    assert not any(step["present"] for step in planned["steps"])
    assert {source["rows"] for source in planned["sources"]} == {40, 60}
    assert planned["model_calls"][0]["calls"] == 40
    assert not (world / "store").exists()

    code, mixed, err = call(capsys, "mix", world / "recipe.yaml", "--plain", *store)
    assert code == 0
    assert [step["state"] for step in mixed["steps"]] == ["made"] * len(mixed["steps"])
    assert "mix" in err

    code, again, _ = call(capsys, "mix", world / "recipe.yaml", "law.floor=0.1", "--plain", *store)
    assert [step["step"] for step in again["steps"] if step["state"] == "made"] == ["mix"]
    code, because, _ = call(capsys, "why", "mixture", *store)
    assert because["changes"] == [{"field": "law.floor", "before": 0.05, "after": 0.1}]
    code, listed, _ = call(capsys, "ls", "mixture", *store)
    assert [row["kind"] for row in listed] == ["mixture", "mixture"]
    code, shown, _ = call(capsys, "show", "knowledge", *store)
    assert shown["kind"] == "knowledge"
    assert call(capsys, "verify", *store)[:2] == (0, {"checked": len(mixed["steps"]) + 1, "damaged": [], "drift": []})


def test_what_a_person_reads(done: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder, artifacts = done
    code, text, _ = call(capsys, "run", folder / "recipe.yaml", "--plain", "--store", folder / "store")
    assert code == 0
    for words in (
        "Knowledge of the base model",
        "planned and realised shares of loss tokens",
        "Exact match",
        "store:",
        "0 steps done",
    ):
        assert words in text
    for kind in {artifact.kind for artifact in artifacts.values()}:
        code, text, _ = call(capsys, "show", kind, "--store", folder / "store")
        assert code == 0, kind
        assert kind in text or "store:" in text
    code, text, _ = call(capsys, "ls", "--store", folder / "store")
    assert "knowledge" in text
    code, text, _ = call(capsys, "run", folder / "recipe.yaml", "--dry-run", "--store", folder / "store")
    assert "0 of" in text
    code, text, _ = call(capsys, "why", "knowledge", "--store", folder / "store")
    assert "the first of its kind" in text


def test_a_stage_command_shows_what_it_was_asked_for(done: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder, artifacts = done
    for command, words in {
        "mix": "Weights by the law knowledge",
        "replay": "of it replay",
        "tag": f"tags: {artifacts['tag'].path}",
    }.items():
        code, text, _ = call(capsys, command, folder / "recipe.yaml", "--plain", "--store", folder / "store")
        assert code == 0
        assert words in text, command


def test_damage_is_exit_code_one(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ("--store", world / "store")
    call(capsys, "base", world / "recipe.yaml", "--plain", *store)
    next((world / "store" / "base").glob("*/base.json")).write_text("{}")
    code, _, err = call(capsys, "verify", *store)
    assert code == 1
    assert "error: " in err
    assert "damaged artifacts" in err
    code, document, _ = call(capsys, "verify", *store, "--json")
    assert code == 1
    assert [each["damaged"] for each in document["damaged"]] == [["base.json"]]


def test_drift_is_exit_code_one(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ("--store", world / "store", "--plain")
    assert call(capsys, "ingest", world / "recipe.yaml", *store)[0] == 0
    assert call(capsys, "ingest", world / "recipe.yaml", "--rebuild", *store)[0] == 0
    made = next((world / "store" / "source").glob("*/manifest.json"))
    made.write_text(made.read_text().replace('"sha256": "', '"sha256": "0'))
    code, _, err = call(capsys, "ingest", world / "recipe.yaml", "--rebuild", *store)
    assert code == 1
    assert "content drifted under the same key" in err
    code, document, _ = call(capsys, "ingest", world / "recipe.yaml", "--rebuild", *store, "--json")
    assert code == 1
    assert [each["kind"] for each in document["drift"]] == ["source"]
    assert "drifted: source/" in call(capsys, "verify", *store[:2])[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "none.yaml"], "RECIPE: no such recipe"),
        (["run", "{recipe}", "lawe=uniform"], "lawe: unknown field of Recipe; did you mean 'law'?"),
        (["run", "{recipe}", "law"], "not an override"),
        (["run", "{recipe}", "sources.0.path=none.jsonl", "--plain"], "none.jsonl"),
        (["run", "{recipe}", "base_model={path: org/none}", "--plain"], "the hub gives no such model"),
        (["run", "{recipe}", "sources.0.path=org/none", "--plain"], "org/none"),
        (["show", "nothing", "--store", "{recipe}.store"], "no such artifact; got nothing; kinds here: none yet"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["run", "{recipe}", "--frobnicate"], "No such option"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_two(
    world: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    filled = [argument.replace("{recipe}", str(world / "recipe.yaml")) for argument in arguments]
    code, _, err = call(capsys, *filled)
    assert code == 2
    assert says in err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    code, document, _ = call(capsys, *filled, "--json")
    assert code == 2
    assert says in document["error"]["message"]


def test_an_empty_source_is_wrong_input(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "law.jsonl").write_text("")
    code, _, err = call(capsys, "ingest", world / "recipe.yaml", "--plain", "--store", world / "store")
    assert code == 2
    assert "law" in err


def test_a_dry_run_counts_a_json_array_and_names_a_broken_file(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, store = world / "recipe.yaml", ("--store", world / "store", "--dry-run", "--json")
    rows = [json.loads(line) for line in (world / "law.jsonl").read_text().splitlines()]
    (world / "law.json").write_text(json.dumps(rows))
    _, planned, _ = call(capsys, "run", recipe, "sources.0.path=law.json", *store)
    assert planned["sources"][0]["rows"] == len(rows)
    (world / "law.parquet").write_bytes(b"PAR1 cut short")
    code, document, _ = call(capsys, "run", recipe, "sources.0.path=law.parquet", *store)
    assert code == 2
    assert "sources.law.path: not readable: Parquet magic bytes" in document["error"]["message"]


def test_a_fault_of_ours_is_exit_code_three(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr("flows.pipeline.make_plan", broken)
    code, _, err = call(capsys, "run", world / "recipe.yaml", "--plain")
    assert code == 3
    assert "error: RuntimeError: surprise; see --debug" in err
    assert "Traceback" not in err
    code, _, err = call(capsys, "run", world / "recipe.yaml", "--plain", "--debug")
    assert "Traceback" in err
