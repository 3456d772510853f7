"""A real Prefect server on loopback with a real worker of a process pool, in a home of their own, for tests that need them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from composer.artifact import Artifact
from tests.conftest import small_recipe, write_world

T = TypeVar("T")
Done = tuple[Path, dict[str, Artifact]]
GPU = "test-gpu"
ROOT = Path(__file__).parents[2]
POOL = "test-pool"


@dataclass
class World:
    """Where the server answers, and what was started beside it."""

    folder: Path
    port: int
    by_schedule: str = ""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where the pages are."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What every process of this world is started with; the loops are short, so that tests wait for little."""
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_API_URL": f"{self.address}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "DO_NOT_TRACK": "1",
        }

    def start(self, *arguments: str, name: str) -> subprocess.Popen[bytes]:
        """Start Python in a process group of its own; what it says goes to a log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def worker(self) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return self.start("-m", "prefect", "worker", "start", "--pool", POOL, name="worker")

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run Python to its end, perhaps with changes of the environment."""
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment | changes, capture_output=True, text=True, timeout=300, check=False
        )

    def compose(self, *arguments: str) -> str:
        """Run a command of ``sft-composer`` that goes well, and return what it printed."""
        done = self.run("-m", "flows", *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def ask(self, path: str, body: Any = None, *, method: str = "POST") -> Any:
        """Ask the server as its pages do."""
        data = None if method == "GET" else json.dumps(body or {}).encode()
        asked = urllib.request.Request(f"{self.address}/api{path}", data, {"Content-Type": "application/json"}, method=method)
        for _ in range(20):
            try:
                with urllib.request.urlopen(asked, timeout=60) as answer:
                    text = answer.read()
                break
            except urllib.error.HTTPError as error:
                if error.code != 503:  # its database was busy; Prefect's own client asks again too
                    raise
                time.sleep(0.5)
        else:
            raise AssertionError(f"{path}: the server stays busy")
        return json.loads(text) if text else None

    def state(self, run: str) -> str:
        """Return the name of a flow run's state."""
        return str(self.ask(f"/flow_runs/{run}", method="GET")["state"]["name"])

    def ended(self, run: str, *, seconds: float = 120) -> str:
        """Wait until a flow run has ended, and return its state."""
        final = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")
        return wait(lambda: state if (state := self.state(run)) in final else None, seconds=seconds, why=f"run {run}")

    def artifacts(self, run: str) -> dict[str, Any]:
        """Return what a flow run left on the pages: its data, by key."""
        asked = {"flow_runs": {"id": {"any_": [run]}}, "sort": "CREATED_DESC"}
        return {each["key"]: each["data"] for each in reversed(self.ask("/artifacts/filter", asked))}

    def deployment(self) -> dict[str, Any]:
        """Return the deployment ``small`` as the server knows it."""
        found: dict[str, Any] = self.ask("/deployments/name/compose/small", method="GET")
        return found

    def begin(self, **parameters: Any) -> str:
        """Start a run as the page does, and return its id."""
        asked = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(self.ask(f"/deployments/{self.deployment()['id']}/create_flow_run", asked)["id"])

    def first_by_schedule(self) -> str:
        """Wait until the schedule has started a run that ended, let the schedule rest, and return the run."""

        def begun() -> str | None:
            runs = [run for run in self.ask("/flow_runs/filter") if run["auto_scheduled"] and run["start_time"]]
            return runs[0]["id"] if runs else None

        run = wait(begun, seconds=120, why="a run by the schedule")
        found = self.deployment()
        schedule = f"/deployments/{found['id']}/schedules/{found['schedules'][0]['id']}"
        self.ask(schedule, {"active": False}, method="PATCH")
        self.ended(run)
        return run

    def stop(self) -> None:
        """End everything that was started."""
        for process in reversed(self.started):
            end(process, signal.SIGTERM)
        for process in reversed(self.started):
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                end(process, signal.SIGKILL)
                process.wait(timeout=15)


def recipe_of(folder: Path, done: Done, *, gpu: bool = True, **changes: Any) -> Path:
    """Write a recipe over a small world of its own that measures and composes on a base model that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_world(folder)
    base = {"path": str(done[1]["base"].path / "model")}
    conduct = {"retry_delay_seconds": 0.1, "tags": ["tiny"], **({"gpu": {"limit": GPU}} if gpu else {})}
    plain = {"probe": None, "law": "proportional", "train": None}
    document = small_recipe(root=str(folder), base_model=base, flow=conduct, **{**plain, **changes})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder / "recipe.yaml"


def end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Send a signal to a whole process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)


def wait(ready: Callable[[], T | None], *, seconds: float, why: str) -> T:
    """Wait until something is there, and return it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := ready():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s in vain: {why}")


def prefect_world(folder: Path) -> Iterator[World]:
    """Start a server, and end it with all that was started after it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        world = World(folder, free.getsockname()[1])

    def healthy() -> bool:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{world.address}/api/health", timeout=5).status == 200
        return False

    try:
        world.start("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(world.port), name="server")
        wait(healthy, seconds=180, why="the server")
        yield world
    finally:
        world.stop()
