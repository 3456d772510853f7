"""A walk with several workers does what one with one does, heavy steps one at a time, and tells of it in the plan's order."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from composer.artifact import Artifact, Store
from composer.errors import InputError
from flows.plan import Plan, Step
from flows.stages import STAGES, Stage
from flows.walk import LIGHT, Walk

RECIPE: Any = None


class Works:
    """Stages that write down when they run."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.together: set[frozenset[str]] = set()
        self.lock = threading.Lock()

    def step(self, stage: str, label: str, *needs: Step, seconds: float = 0.05, fails: bool = False) -> Step:
        def build(folder: Path, **_: Any) -> Mapping[str, Any]:
            with self.lock:
                self.running.append(label)
                self.together.add(frozenset(self.running))
            time.sleep(seconds)
            with self.lock:
                self.running.remove(label)
            if fails:
                raise InputError(f"{label} cannot be")
            (folder / "made.json").write_text(f'"{label}"')
            return {}

        return Step(label, Stage(stage, stage, build), {"label": label}, {"of": needs} if needs else {})


def walk(steps: list[Step], root: Path, workers: int) -> tuple[list[tuple[str, bool]], dict[str, Artifact]]:
    told: list[tuple[str, bool]] = []
    plan = Plan(RECIPE, tuple(steps))
    found = Walk(
        plan, Store(root), lambda step, _, there: told.append((step.label, there)), lambda _, perform, __: perform,
        workers=workers,
    ).carry_out()  # fmt: skip
    return told, found


def diamond(works: Works) -> list[Step]:
    """Return sources of unequal length, their pool, and light and heavy steps after it."""
    sources = [works.step("ingest", f"ingest {i}", seconds=0.2 - 0.04 * i) for i in range(4)]
    pool = works.step("pool", "pool", *sources)
    heavy = [works.step(name, name, pool) for name in ("embed", "probe", "train")]
    light = [works.step(name, name, pool) for name in ("tag", "answers")]
    return [*sources, pool, *heavy, *light, works.step("report", "report", *heavy, *light)]


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_any_number_of_workers_tells_and_leaves_the_same(workers: int, tmp_path: Path) -> None:
    works = Works()
    steps = diamond(works)
    told, found = walk(steps, tmp_path, workers)
    assert told == [(step.label, False) for step in steps]
    assert list(found) == [step.label for step in steps]
    assert all(found[step.label].json("made.json") == step.label for step in steps)
    most = max(map(len, works.together))
    assert most == 1 if workers == 1 else 1 < most <= workers
    for at_once in works.together:
        assert len(at_once & {"embed", "probe", "train", "pool"}) <= 1
        assert "pool" not in at_once or len(at_once) == 1, "a step began before its inputs were done"
    assert walk(steps, tmp_path, workers)[0] == [(step.label, True) for step in steps]


def test_heavy_steps_that_have_processes_of_their_own_are_done_side_by_side(tmp_path: Path) -> None:
    works = Works()
    steps, sent = diamond(works), []

    def apart(step: Step, store: Store, inputs: Mapping[str, Any], rebuild: bool) -> Artifact:
        sent.append(step.label)
        return step.perform(store, inputs, rebuild=rebuild)

    for _ in range(2):
        found = Walk(
            Plan(RECIPE, tuple(steps)), Store(tmp_path), lambda *_: None, lambda _, perform, __: perform, workers=4, apart=apart
        ).carry_out()
    assert all(found[step.label].json("made.json") == step.label for step in steps)
    assert sorted(sent) == ["embed", "pool", "probe", "train"], "light steps stay, and what is there is not sent again"
    assert any(len(at_once & {"embed", "probe", "train"}) > 1 for at_once in works.together)


def test_a_failure_lets_the_others_end_begins_nothing_and_is_the_first_of_the_plan(tmp_path: Path) -> None:
    works = Works()
    slow = works.step("ingest", "slow", seconds=0.3, fails=True)
    quick = works.step("ingest", "quick", seconds=0.05, fails=True)
    sound = works.step("ingest", "sound", seconds=0.4)
    waiting = works.step("ingest", "waiting")
    told: list[str] = []
    plan = Plan(RECIPE, (slow, quick, sound, waiting))
    with pytest.raises(InputError, match="slow cannot be"):
        Walk(
            plan, Store(tmp_path), lambda step, *_: told.append(step.label), lambda _, perform, __: perform, workers=3
        ).carry_out()
    assert told == ["sound"]
    assert Store(tmp_path).find("ingest", sound.key) is not None
    assert Store(tmp_path).find("ingest", waiting.key) is None


def test_light_stages_are_stages() -> None:
    assert set(STAGES) > LIGHT
