"""The doctor says what a run will do, shows rows as the model reads them, and fails above the threshold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows.cli import invoke

DATA = Path(__file__).parents[2] / "../shared/data"
GOOD = {"instruction": "Name the river.", "input": "of the town", "output": "The Aare."}
BAD = {"instruction": "Name the river.", "output": ""}


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def doctor(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    assert invoke(["doctor", *map(str, arguments), "--json"]) == code
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_it_reports_what_the_run_does(
    done: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, artifacts = done
    monkeypatch.chdir(folder)
    [recipe] = folder.glob("*.yaml")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    report = doctor(capsys, recipe)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "the doctor changed something"
    made = {a.manifest.spec["source"]["name"]: a.manifest.stats for name, a in artifacts.items() if a.kind == "source"}
    assert made
    for source in report["sources"]:
        if (stats := made.get(source["name"])) is None:
            continue
        for name in ("seen", "kept", "repaired", "dropped", "truncated"):
            assert source[name] == stats[name]
        assert source["tokens"] == stats["n_tokens"]
        assert sum(source["lengths"]["at_most"].values()) == source["kept"] + source["repaired"]
    assert report["licences"]["rows"] == {"MIT": 120, "unknown": 180}
    assert [each["between"] for each in report["licences"]["conflicts"]] == [["unknown"]]


def test_rows_are_shown_as_the_model_reads_them(
    done: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = done[1]["base"].path / "model"
    path = jsonl(tmp_path / "a.jsonl", [GOOD, {**GOOD, "output": "The Rhine."}])
    [first, second] = doctor(capsys, path, "--model", model)["preview"]
    assert [run["trained"] for run in first["runs"]] == [False, True] or [run["trained"] for run in first["runs"]][1:2] == [
        True
    ]
    assert "Aare" in "".join(run["text"] for run in first["runs"] if run["trained"])
    assert "Name the river." in "".join(run["text"] for run in first["runs"] if run["trained"] is False)
    assert "Rhine" in "".join(run["text"] for run in second["runs"] if run["trained"])
    cut = doctor(capsys, path, "--model", model, "--max-length", 12)
    assert cut["sources"][0]["truncated"] + cut["sources"][0]["no_loss_tokens"] == 2
    assert invoke(["doctor", str(path), "--model", str(model)]) == 0
    assert ">>" in capsys.readouterr().out


@pytest.mark.parametrize(("loss_on", "trained"), [("all", ["Aare", "Rhine"]), ("last", ["Rhine"])])
def test_a_recipe_says_which_answers_are_shown_as_trained_on(
    loss_on: str, trained: list[str], done: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(["1?", "Aare", "2?", "Rhine"])]
    jsonl(tmp_path / "a.jsonl", [{"messages": talk}])
    base = {"path": str(done[1]["base"].path / "model")}
    recipe = {
        "name": "rivers", "root": str(tmp_path), "loss_on": loss_on, "base_model": base,
        "sources": [{"name": "a", "path": "a.jsonl", "domain": "law"}],
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    report = doctor(capsys, tmp_path / "recipe.yaml")
    shown = "".join(run["text"] for run in report["preview"][0]["runs"] if run["trained"])
    assert [river for river in ("Aare", "Rhine") if river in shown] == trained
    assert "?" not in shown


@pytest.mark.parametrize(("most", "code"), [(0.6, 0), (0.4, 1)])
def test_too_many_drops_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str], most: float, code: int) -> None:
    path = jsonl(tmp_path / "a.jsonl", [GOOD, GOOD, {**GOOD, "output": "Another."}, BAD, BAD, {}])
    report = doctor(capsys, path, "--max-dropped", most, code=code)
    [source] = report["sources"]
    assert (source["seen"], source["dropped"]) == (6, {"duplicate": 1, "empty_answer": 2, "unknown_shape": 1})
    assert [each["row"] for each in source["examples"]["empty_answer"]] == [3, 4]
    assert report["too_many_dropped"] == (["a.jsonl"] if code else [])
    assert report["duplicates"]["within"] == {"a.jsonl": 1}


def test_copies_across_files_and_evaluation_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "a town on the river that has a bridge and a tower and a market on every second monday of the month"
    jsonl(tmp_path / "a.jsonl", [GOOD, {"prompt": "Tell.", "completion": f"There is {text}."}])
    jsonl(tmp_path / "b.jsonl", [GOOD, {**GOOD, "output": "Another."}])
    (tmp_path / "notes.txt").write_text("no data")
    held = jsonl(tmp_path.parent / f"{tmp_path.name}-held.jsonl", [{"question": "Where?", "choices": [text]}])
    report = doctor(capsys, tmp_path, "--against", held)
    assert [source["name"] for source in report["sources"]] == ["a.jsonl", "b.jsonl"]
    assert report["duplicates"]["sources"]["b.jsonl"]["dropped"] == {"duplicate_across_sources": 1}
    [found] = report["decontamination"].values()
    assert found["sources"]["a.jsonl"]["rows"] == 1
    assert invoke(["doctor", str(tmp_path), "--against", str(held)]) == 0
    shown = capsys.readouterr()
    assert "duplicate_across_sources" in shown.out
    assert "not data" in shown.err
    assert "notes.txt" in shown.err


@pytest.mark.parametrize("arguments", [["none.jsonl"], ["none.yaml"], ["org"]])
def test_a_missing_target_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(["doctor", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("kind", ["domains", "tasks"])
def test_real_data_is_what_its_columns_say(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    if not (DATA / kind).exists():
        pytest.skip("shared data is not on this machine")
    report = doctor(capsys, DATA / kind)
    raw = {path.name: pl.read_parquet(path) for path in sorted((DATA / kind).glob("*.parquet"))}
    assert [source["name"] for source in report["sources"]] == list(raw)
    for source in report["sources"]:
        table = raw[source["name"]]
        n = len(table)
        assert (source["seen"], source["kept"], source["repaired"], source["dropped"]) == (n, n, 0, {})
        assert source["shapes"] == {"alpaca": n}
        assert source["licences"] == dict(sorted(table.group_by("license").len().iter_rows()))
    assert report["duplicates"]["within"] == {}
    assert all(not each["dropped"] for each in report["duplicates"]["sources"].values())
