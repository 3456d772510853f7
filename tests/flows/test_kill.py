"""Killed at random moments and started again, a run ends with the same artifacts and redoes no complete stage."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from composer.artifact import Artifact, Store
from tests.flows.started import started

KILLS = 10


@pytest.mark.slow
def test_ten_kills_change_nothing(done: tuple[Path, dict[str, Artifact]], world: Path) -> None:
    dice, store = random.Random(5), Store(world / "store")
    kills, complete = 0, {}
    begun = time.time()
    while kills < KILLS:
        process = started(world, "run")
        wait_for_work(process, store, seconds=60)
        time.sleep(dice.uniform(0.0, 0.6))
        if process.poll() is not None:  # it ended before its turn: take the last artifacts away, so that there is work to kill
            assert process.returncode == 0, process.stderr.read() if process.stderr else ""
            forget_last(store)
        else:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
        for artifact in store.all():
            assert store.verify(artifact) == [], "a torn artifact was taken for complete"
            made = artifact.manifest.made["at"]
            assert complete.setdefault(artifact.path, made) == made, f"{artifact.path} was done again"
        complete = {path: made for path, made in complete.items() if path.exists()}
        assert time.time() - begun < 600
    out, err = started(world, "run").communicate(timeout=300)
    document: dict[str, Any] = json.loads(out)
    assert {step["state"] for step in document["steps"]} <= {"made", "present"}, err
    expected = {f"{a.kind}/{a.key}": a.manifest.files for a in done[1].values()}
    assert {f"{a.kind}/{a.key}": a.manifest.files for a in store.all()} == expected


def wait_for_work(process: subprocess.Popen[str], store: Store, *, seconds: float) -> None:
    """Wait until the process has begun to build something or has ended."""
    end, before = time.time() + seconds, count(store)
    while time.time() < end and process.poll() is None and count(store) == before:
        time.sleep(0.01)


def count(store: Store) -> int:
    return sum(1 for _ in store.root.glob("**/*"))


def forget_last(store: Store) -> None:
    """Remove the newest half of the artifacts."""
    import shutil

    found = store.all()
    for artifact in found[len(found) // 2 :]:
        shutil.rmtree(artifact.path)
