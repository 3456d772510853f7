"""The small recipe as a user runs it, in a process of its own, and what its store must then hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from composer.artifact import Artifact, Store

ROOT = Path(__file__).parents[2]
Done = tuple[Path, dict[str, Artifact]]


def start(folder: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with Prefect's database in a home of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(home)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)


def assert_same(store: Path, plain: dict[str, Artifact]) -> None:
    """Hold the manifests of a store to those of a plain run; only when and where they were made may differ."""
    found = {f"{a.kind}/{a.key}": a for a in Store(store).all()}
    assert found.keys() == {f"{a.kind}/{a.key}" for a in plain.values()}
    for artifact in plain.values():
        each = found[f"{artifact.kind}/{artifact.key}"].manifest
        assert each.model_dump(exclude={"made"}) == artifact.manifest.model_dump(exclude={"made"}), artifact.kind
