"""The same story as a Prefect flow, with a real local server, in a process of its own as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.flows.by_prefect import Done, assert_same, start

pytestmark = pytest.mark.prefect


def run(folder: Path, home: Path, *arguments: str) -> str:
    """Run Python and return what it printed."""
    done = start(folder, home, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_prefect_run_leaves_the_same_manifests(done: Done, tmp_path: Path) -> None:
    folder, plain = done
    out = run(folder, tmp_path / "home", "-m", "flows", "run", "recipe.yaml", "--json", "--store", str(tmp_path / "store"))
    document: dict[str, Any] = json.loads(out)
    assert [step["state"] for step in document["steps"]] == ["made"] * len(plain)
    assert_same(tmp_path / "store", plain)


def test_a_wrong_input_is_one_line_from_within_a_flow_too(done: Done, tmp_path: Path) -> None:
    folder, _ = done
    told = start(
        folder, tmp_path / "home", "-m", "flows", "mix", "recipe.yaml", "probe=null", "--store", str(tmp_path / "store")
    )
    assert told.returncode == 2
    assert told.stdout == ""
    assert "Traceback" not in told.stderr
    [line] = [line for line in told.stderr.splitlines() if line.startswith("error:")]
    assert "law knowledge: needs knowledge, which this run does not have" in line


def test_an_entry_point_is_a_flow_over_a_recipe(done: Done, tmp_path: Path) -> None:
    folder, plain = done
    code = "import json; from flows.probe import probe; print(json.dumps(probe('recipe.yaml')))"
    made = json.loads(run(folder, tmp_path / "home", "-c", code))
    assert made["probe"] == f"knowledge/{plain['probe'].key}"
