"""The same recipe on two local workers of Ray or Dask, in a process of its own as a user runs it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from composer.artifact import Artifact, Store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
Done = tuple[Path, dict[str, Artifact]]
CLUSTERS = ("ray", "dask")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's home, whose database is made once."""
    return tmp_path_factory.mktemp("home")


def start(folder: Path, home: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the small world on a cluster of two workers."""
    pytest.importorskip(f"prefect_{name}", reason=f"needs the extra {name}")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PREFECT_HOME": str(home)}
    command = [sys.executable, "-m", "flows", *arguments, f"runner={{name: {name}, workers: 2}}", "--json"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False)


def task_runs(home: Path) -> list[tuple[str, str]]:
    """Return the names and states of all task runs that Prefect's server was told of."""
    with sqlite3.connect(home / "prefect.db") as database:
        return database.execute("select name, state_name from task_run").fetchall()


@pytest.mark.parametrize("name", CLUSTERS)
def test_two_workers_leave_the_manifests_of_one_process(name: str, done: Done, home: Path, tmp_path: Path) -> None:
    folder, plain = done
    before = len(task_runs(home)) if (home / "prefect.db").exists() else 0
    told = start(folder, home, name, "run", "recipe.yaml", "--store", str(tmp_path / "store"))
    assert told.returncode == 0, told.stderr[-3000:]
    assert [step["step"] for step in json.loads(told.stdout)["steps"]] == list(plain)
    found = {f"{a.kind}/{a.key}": a for a in Store(tmp_path / "store").all()}
    assert found.keys() == {f"{a.kind}/{a.key}" for a in plain.values()}
    for artifact in plain.values():
        made, other = (
            each.manifest.model_dump(exclude={"made"}) for each in (artifact, found[f"{artifact.kind}/{artifact.key}"])
        )
        assert made == other, artifact.kind
    runs = task_runs(home)[before:]
    assert {state for _, state in runs} == {"Completed"}
    shards = [run for run, _ in runs if ": " in run]
    assert sum(run.startswith("compare: ") for run in shards) == 3, "every pair of domains is a task of its own"
    assert sum(run.startswith("ingest ") for run in shards) == 6
    assert not list((home / "storage").glob("*")), "a result was kept"


def test_what_is_wrong_on_a_worker_is_one_line_here(done: Done, home: Path, tmp_path: Path) -> None:
    folder, _ = done
    small = "distance={name: wasserstein, max_points: 3}"
    told = start(folder, home, "ray", "compare", "recipe.yaml", small, "--store", str(tmp_path / "store"))
    assert told.returncode == 2, told.stderr[-3000:]
    assert "Traceback" not in told.stderr
    [line] = [line for line in told.stderr.splitlines() if line.startswith("error:")]
    assert "distance: clouds too large to solve exactly; expected at most 3" in line
