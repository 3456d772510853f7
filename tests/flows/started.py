"""A command in a process group of its own, which can be killed with all that it started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def started(folder: Path, *words: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start a plain command over the recipe of a folder; it will print one JSON document."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows", words[0], "recipe.yaml", "--plain", "--json", *words[1:]],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
