"""The same recipe on two workers of Ray or Dask, that a run starts or that were there before, as a user runs it."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.flows.by_prefect import Done, assert_same, start
from tests.flows.prefect_world import World, prefect_world, wait

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
SPLIT = ("source", "similarity", "knowledge")
"""What the small recipe has made in shards."""
LEAST_FREE = """
import sys, threading, ray
ray.init(address=sys.argv[1], log_to_driver=False)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
least = 1.0
while not stop.wait(0.01):
    least = min(least, ray.available_resources().get("GPU", 0.0))
print(least)
"""
"""A program that watches a cluster of Ray until its input ends, and says how much of its GPU was free at the least."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A Prefect server that stays, and what is started beside it."""
    yield from prefect_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def ray(world: World) -> Iterator[str]:
    """The address of a cluster of Ray, of two CPUs and a GPU that it only believes in."""
    pytest.importorskip("prefect_ray", reason="needs the extra ray")
    port, folder = free_port(), tempfile.mkdtemp(prefix="ray")  # the path of a socket must be short
    alone = ["--head", "--node-ip-address", "127.0.0.1", "--port", str(port), "--num-cpus", "2", "--num-gpus", "1"]
    quiet = ["--include-dashboard", "false", "--disable-usage-stats", "--temp-dir", folder, "--block"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # so that it keeps to loopback
        patch.setenv("RAY_AUTH_MODE", "token")  # of its own, whether or not the user has one at home
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        head = world.start("-m", "ray.scripts.scripts", "start", *alone, *quiet, name="ray")
        wait(lambda: "Ray runtime started" in (world.folder / "ray.log").read_text(), seconds=120, why="a cluster of Ray")
        yield f"127.0.0.1:{port}"
        head.terminate()  # it ends the processes that it started
        head.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def dask(world: World) -> str:
    """The address of a scheduler of Dask with two workers."""
    pytest.importorskip("prefect_dask", reason="needs the extra dask")
    port = free_port()
    world.start("-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", name="scheduler")
    workers = ["--nworkers", "2", "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard"]
    world.start("-m", "dask", "worker", f"tcp://127.0.0.1:{port}", *workers, name="dask")
    wait(lambda: (world.folder / "dask.log").read_text().count("Registered to") == 2, seconds=120, why="workers of Dask")
    return f"tcp://127.0.0.1:{port}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def begun(done: Done, tmp_path: Path) -> Path:
    """A store that lacks what is made in shards."""
    store = tmp_path / "store"
    shutil.copytree(done[0] / "store", store)
    for kind in SPLIT:
        shutil.rmtree(store / kind)
    return store


def task_runs(home: Path) -> list[tuple[str, str]]:
    """Return the names and states of all task runs that Prefect's server was told of."""
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        return database.execute("select name, state_name from task_run").fetchall()


def assert_sharded(runs: list[tuple[str, str]]) -> None:
    """Hold the task runs to the shards of the small recipe."""
    assert {state for _, state in runs} == {"Completed"}
    shards = [run for run, _ in runs if ": " in run]
    assert sum(run.startswith("compare: ") for run in shards) == 3, "every pair of domains is a task of its own"
    assert sum(run.startswith("ingest ") for run in shards) == 6
    assert sum(run.startswith("probe: ") for run in shards) == 1


def test_two_workers_of_ray_leave_the_manifests_of_one_process(done: Done, tmp_path: Path) -> None:
    pytest.importorskip("prefect_ray", reason="needs the extra ray")
    folder, plain = done
    home, store = tmp_path / "home", tmp_path / "store"
    arguments = ["run", "recipe.yaml", "runner={name: ray, workers: 2}", "--store", str(store), "--json"]
    told = start(folder, home, "-m", "flows", *arguments)
    assert told.returncode == 0, told.stderr[-3000:]
    assert [step["step"] for step in json.loads(told.stdout)["steps"]] == list(plain)
    assert_same(store, plain)
    assert_sharded(task_runs(home))
    assert not list((home / "storage").glob("*")), "a result was kept"


def run_beside(world: World, done: Done, store: Path, runner: str) -> None:
    """Run what a store lacks on a runner, with the server that stays, and hold it to the plain run."""
    folder, plain = done
    before = len(task_runs(world.folder / "home"))
    world.compose("run", str(folder / "recipe.yaml"), f"runner={runner}", "--store", str(store), "--json")
    assert_same(store, plain)
    assert_sharded(task_runs(world.folder / "home")[before:])


def test_two_workers_of_dask_leave_the_manifests_of_one_process(done: Done, world: World, begun: Path) -> None:
    pytest.importorskip("prefect_dask", reason="needs the extra dask")
    run_beside(world, done, begun, "{name: dask, workers: 2}")


def test_a_scheduler_of_dask_that_was_there_does_the_same(done: Done, world: World, dask: str, begun: Path) -> None:
    run_beside(world, done, begun, f"{{name: dask, workers: 2, address: '{dask}'}}")


@contextmanager
def watched(world: World, address: str) -> Iterator[subprocess.Popen[str]]:
    """Watch how much of a cluster's GPU is free."""
    command = [sys.executable, "-c", LEAST_FREE, address]
    with subprocess.Popen(command, env=world.environment, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) as watch:
        try:
            yield watch
        finally:
            watch.kill()


def test_a_cluster_of_ray_that_was_there_does_the_same_and_lends_its_gpu(
    done: Done, world: World, ray: str, begun: Path
) -> None:
    with watched(world, ray) as watch:
        run_beside(world, done, begun, f"{{name: ray, workers: 2, address: '{ray}', gpus: 0.5}}")
        least, _ = watch.communicate(timeout=60)
    assert float(least) <= 0.5, "tasks ask for their share"


def test_what_is_wrong_on_a_worker_is_one_line_here(done: Done, world: World, ray: str, tmp_path: Path) -> None:
    folder, _ = done
    small = ["distance={name: wasserstein, max_points: 3}", f"runner={{name: ray, address: '{ray}'}}"]
    told = world.run("-m", "flows", "compare", str(folder / "recipe.yaml"), *small, "--store", str(tmp_path / "store"))
    assert told.returncode == 2, told.stderr[-3000:]
    assert "Traceback" not in told.stderr
    [line] = [line for line in told.stderr.splitlines() if line.startswith("error:")]
    assert "distance: clouds too large to solve exactly; expected at most 3" in line
