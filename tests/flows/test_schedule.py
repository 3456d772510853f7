"""Recipes that run by a schedule: a real server, a real worker, runs by cron and from the page, kills, and what pages show."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from composer.artifact import Artifact, Store
from tests.flows.prefect_world import GPU, Done, World, end, recipe_of, wait

pytestmark = pytest.mark.prefect

RETRIES = """
from prefect import flow
from composer.errors import SpecError
from flows.conduct import Conduct
from flows.plan import Step
from flows.prefect_tasks import as_task
from flows.stages import STAGES

conduct, tried = Conduct(retries=2, retry_delay_seconds=0.01, timeout_seconds=2), []

def failing(error, times):
    def perform():
        tried.append(type(error).__name__)
        if tried.count(type(error).__name__) <= times:
            raise error
        return "made"
    return as_task(Step("mix {law}", STAGES["mix"], {}, {}), perform, conduct, was_there=False)

def slow():
    import time
    tried.append("slow")
    time.sleep(30)

@flow(name="retries")
def retries():
    print("passed:", failing(OSError(28, "full"), 2)())
    for task in (failing(OSError(28, "full"), 9), failing(SpecError("no law"), 9)):
        tried.clear()
        print(type(task(return_state=True).result(raise_on_failure=False)).__name__, len(tried))
    tried.clear()
    late = as_task(Step("mix", STAGES["mix"], {}, {}), slow, conduct, was_there=False)
    print(late(return_state=True).name, len(tried))

retries()
"""


def made(run_summary: str) -> set[str]:
    """Return the stages that a summary says were made."""
    rows = [line.split(" | ") for line in run_summary.splitlines() if line.startswith("| ")]
    return {row[0].removeprefix("| ").replace("&#45;", "-") for row in rows if row[2:3] == ["made"]}


def whole(store: Store) -> list[Artifact]:
    """Return a store's artifacts, none of which is torn."""
    found = store.all()
    assert [each.path for each in found if store.verify(each)] == []
    return found


def test_the_schedule_starts_a_run_and_its_pages_tell_of_it(scheduled: World) -> None:
    run = scheduled.by_schedule
    assert scheduled.state(run) == "Completed"
    assert {"sft-composer", "tiny"} <= set(scheduled.ask(f"/flow_runs/{run}", method="GET")["tags"])
    left = scheduled.artifacts(run)
    assert {"small-summary", "small-shares", "small-mixture", "small-similarity", "small-card"} <= left.keys()
    assert "**15 of 15 stages done**" in left["small-summary"]
    rows = json.loads(left["small-shares"])
    assert sum(row["weight"] for row in rows) == pytest.approx(1, abs=1e-5)
    assert [row["domain"] for row in rows] == ["law", "medicine", "code"]
    assert left["small-mixture"].startswith("data:image/png;base64,")
    assert "README.md" in left["small-card"]
    limit = scheduled.ask(f"/v2/concurrency_limits/{GPU}", method="GET")
    assert (limit["limit"], limit["active_slots"]) == (1, 0)


def test_the_parameters_make_a_form(scheduled: World) -> None:
    schema = scheduled.deployment()["parameter_openapi_schema"]["properties"]
    assert [schema[name]["title"] for name in schema] == ["Recipe", "Recipe text", "Overrides", "Store", "Until"]
    assert all(schema[name]["description"] for name in schema)
    assert "mix" in schema["until"]["enum"]
    with pytest.raises(OSError, match=r"409|422"):
        scheduled.begin(until="mixx")


def test_a_run_that_finds_everything_says_so_and_a_grown_source_redoes_only_what_follows(scheduled: World) -> None:
    store = Store(scheduled.folder / "store")
    text = (scheduled.folder / "recipe.yaml").read_text()
    again = scheduled.begin(recipe=None, recipe_text=text)
    assert scheduled.ended(again) == "Completed"
    summary = scheduled.artifacts(again)["small-summary"]
    assert "Nothing to do: every artifact was there." in summary
    assert made(summary) == set()
    before = {each.key for each in whole(store)}
    with (scheduled.folder / "law.jsonl").open("a") as file:
        for i in range(20):
            file.write(json.dumps({"instruction": f"Which court hears plea {i}?", "output": f"court number {i}"}) + "\n")
    grown = scheduled.begin()
    assert scheduled.ended(grown) == "Completed"
    summary = scheduled.artifacts(grown)["small-summary"]
    follow = {"pool", "embed", "tag", "score", "compare", "mix", "replay", "compose", "export"}
    assert made(summary) == {"ingest law", *follow}
    assert "source law: 40 rows, now 60 rows" in summary
    compositions = store.all("composition")
    assert [each.key in before for each in compositions] == [True, False]
    names = [f"composition/{each.key}" for each in compositions]
    document = json.loads(scheduled.compose("mix", "diff", *names, "--store", str(store.root), "--json"))
    assert [(s["source"], s["rows"]) for s in document["sources"] if s["changed"]] == [("law", {"a": 40, "b": 60})]
    assert f"mix diff {' '.join(names)}" in summary


def test_two_runs_of_one_recipe_share_a_store(scheduled: World, done: Done) -> None:
    folder = scheduled.folder / "two"
    probe = {"name": "self_generation", "samples": 40, "max_new_tokens": 12}
    recipe, store = str(recipe_of(folder, done, probe=probe)), Store(folder / "store")
    runs = [scheduled.begin(recipe=recipe, store=str(store.root)) for _ in range(2)]
    assert [scheduled.ended(run) for run in runs] == ["Completed", "Completed"]
    found = whole(store)
    assert len({(each.kind, each.key) for each in found}) == len(found)
    assert store.drift() == []
    assert not [path for path in store.root.glob(".partial/*/*") if path.is_dir()]
    assert json.loads(scheduled.compose("verify", "--store", str(store.root), "--json"))["damaged"] == []


def test_what_is_stopped_leaves_nothing_torn_and_is_gone_on_with(scheduled: World, done: Done) -> None:
    """A run is cancelled on the page; the next one and its worker are killed; another worker ends what was begun."""
    probe = {"name": "self_generation", "samples": 1_500, "max_new_tokens": 30}
    folder = scheduled.folder / "stopped"
    recipe, store = str(recipe_of(folder, done, probe=probe, gpu=False)), Store(folder / "store")

    def probing() -> str:
        """Start a run and wait until it probes."""
        run = scheduled.begin(recipe=recipe, store=str(store.root))
        began = time.time()
        wait(lambda: touched(store.root / ".partial" / "knowledge") > began, seconds=120, why="the probe")
        return run

    def complete() -> dict[Path, float]:
        assert not store.all("knowledge")
        return {each.path: each.manifest.made["at"] for each in whole(store)}

    cancelled = probing()
    scheduled.ask(f"/flow_runs/{cancelled}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    assert scheduled.ended(cancelled) == "Cancelled"
    before = complete()
    assert len(before) >= 8
    run = probing()
    kill(scheduled, run)
    assert complete() == before
    scheduled.worker()
    assert scheduled.state(run) == "Running"  # nobody has told the server
    again = {
        "state": {"type": "SCHEDULED", "name": "AwaitingRetry"},
        "force": True,
    }  # as the automation of docs/schedule.md does
    scheduled.ask(f"/flow_runs/{run}/set_state", again)
    assert scheduled.ended(run, seconds=180) == "Completed"
    after = {each.path: each.manifest.made["at"] for each in whole(store)}
    assert {path: after[path] for path in before} == before
    assert store.all("export")
    assert not [path for path in store.root.glob(".partial/*/*") if path.is_dir()]


def touched(folder: Path) -> float:
    """Return when anything below a folder was last written."""
    return max((path.stat().st_mtime for path in folder.glob("*/*")), default=0.0)


def kill(scheduled: World, run: str) -> None:
    """Kill the worker and the run's own process, as when their machine fails."""
    worker = next(each for each in reversed(scheduled.started) if "worker" in each.args)  # type: ignore[operator]
    end(worker, signal.SIGKILL)
    worker.wait(timeout=10)
    _, _, pid = scheduled.ask(f"/flow_runs/{run}", method="GET")["infrastructure_pid"].rpartition(":")
    os.killpg(int(pid), signal.SIGKILL)
    time.sleep(0.5)


def test_faults_of_the_machine_are_tried_again_and_wrong_words_are_not(scheduled: World) -> None:
    done = scheduled.run("-c", RETRIES)
    assert done.returncode == 0 or "OSError" in done.stderr, done.stderr[-2000:]
    assert done.stdout.split("\n")[:4] == ["passed: made", "OSError 3", "SpecError 1", "TimedOut 1"], done.stderr[-2000:]


def test_serve_runs_a_recipe_without_a_worker_until_it_is_stopped(scheduled: World) -> None:
    recipe = str(scheduled.folder / "recipe.yaml")
    command = ("serve", recipe, "--flow", "compose", "--name", "served", "--interval", "86400")
    process = scheduled.start("-m", "flows", *command, name="serve")

    def asked() -> dict[str, Any]:
        found: dict[str, Any] = scheduled.ask("/deployments/name/compose/served", method="GET")
        return found

    def there() -> bool:
        assert process.poll() is None, (scheduled.folder / "serve.log").read_text()
        try:
            return bool(asked())
        except OSError:
            return False

    wait(there, seconds=60, why="the deployment that is served")
    run = scheduled.ask(f"/deployments/{asked()['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"]
    assert scheduled.ended(run) == "Completed"
    end(process, signal.SIGTERM)
    process.wait(timeout=30)
    assert asked()["paused"] is True
