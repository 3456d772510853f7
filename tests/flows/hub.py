"""Commands against the loopback hub, in a process of their own: the client reads the hub's address when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.loopback import WRITER, Hub

ROOT = Path(__file__).parents[2]
RUN = """
import contextlib, io, json, os, resource, sys, time

pause, time.sleep = time.sleep, lambda seconds: pause(min(seconds, 0.01))  # the client waits longer and longer
from flows.cli import invoke

told = []
for arguments, changes in json.load(sys.stdin):
    os.environ.update({name: value for name, value in changes.items() if value is not None})
    for name in [name for name, value in changes.items() if value is None]:
        os.environ.pop(name, None)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = invoke(arguments)
    told.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""


@dataclass
class Ran:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def environment(hub: Hub, home: Path, **changes: str) -> dict[str, str]:
    """Return the environment of a process whose hub is this one; what it fetches lies in ``home``."""
    gone = ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    own = {
        "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": WRITER, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    return kept | own | changes


def commands(
    hub: Hub, home: Path, *given: Sequence[object] | tuple[Sequence[object], Mapping[str, str | None]], **changes: str
) -> list[Ran]:
    """Run commands one after another in one process, each perhaps with changes of the environment from there on."""
    asked = [each if isinstance(each, tuple) else (each, {}) for each in given]
    told = json.dumps([([str(word) for word in words], own) for words, own in asked])
    done = script(hub, home, RUN, given=told, **changes)
    return [Ran(*each) for each in json.loads(done.splitlines()[-1])]


def script(hub: Hub, home: Path, text: str, *arguments: object, given: str = "", **changes: str) -> str:
    """Run a script and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", text, *map(str, arguments)], input=given, env=environment(hub, home, **changes),
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
