"""The parent's side of a training with several processes: start them, hear them, end them whatever happens.

Nothing is left running: the processes end when their standard input does, which the parent holds open for as long as it lives.
They find each other by files beside the job: the stores that torchrun would open listen on every network of the machine, and
what its own processes read from one they unpickle.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from composer.errors import (
    CheckError,
    ComposerError,
    FaultError,
    InputError,
    ModelError,
    SourceError,
    SpecError,
    StoreError,
)
from composer.progress import Bar, bar, say
from composer.train.job import GROUP, PROGRESS, STATS, WATCHED, Job

LOOK_S = 0.1
"""How often the parent looks what the processes say."""
PATIENCE_S = 10.0
"""How long they may take to end when they are told to."""
KINDS = {kind.__name__: kind for kind in (CheckError, FaultError, InputError, ModelError, SourceError, SpecError, StoreError)}
LOGS, LAUNCHER, MEETING = "logs", "launcher.log", "meeting"


def carry_out(path: Path) -> dict[str, Any]:
    """Carry out a job with as many processes on this machine as its spec says, and return the stats of `train`.

    Raises
    ------
    SpecError
        Where there are fewer GPUs than processes.
    ComposerError
        What a process came to raise; the first, where several did.
    FaultError
        Where a process failed in another way, or was ended.
    """
    job, aside = Job(**json.loads(path.read_text(encoding="utf-8"))), path.parent
    _check_devices(job)
    (aside / PROGRESS).touch()
    with (
        (aside / PROGRESS).open(encoding="utf-8") as told,
        ExitStack() as bars,
        _processes(path, job=job) as running,
    ):
        heard = _Heard(told, bars)
        while running.poll() is None:
            heard.repeat()
            time.sleep(LOOK_S)
        heard.repeat()
    if running.returncode:
        raise _error(aside, code=running.returncode)
    for name in job.tables.values():
        (aside / name).unlink()
    stats: dict[str, Any] = json.loads((aside / STATS).read_text(encoding="utf-8"))
    return stats


def _check_devices(job: Job) -> None:
    import torch

    n = torch.cuda.device_count()
    if job.spec.device != "cpu" and torch.cuda.is_available() and job.spec.processes > n:
        got, hint = job.spec.processes, "a GPU holds one process; train.device: cpu does without"
        raise SpecError("more processes than GPUs", where="train.processes", expected=f"at most {n}", got=got, hint=hint)


@contextmanager
def _processes(path: Path, *, job: Job) -> Iterator[subprocess.Popen[bytes]]:
    meeting = path.with_name(MEETING)
    _forget_each_other(path)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--local-addr", "127.0.0.1",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", str(meeting), "--rdzv-conf", "store_type=file", "--rdzv-id", path.stem,
        "--nproc-per-node", str(job.spec.processes),
        "--log-dir", str(path.parent / LOGS), "--redirects", "3", "-m", "composer.train.job", str(path), WATCHED,
    ]  # fmt: skip
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with (path.parent / LAUNCHER).open("wb") as log:
        running = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        )  # fmt: skip
    assert running.stdin is not None
    try:
        yield running
    finally:
        running.stdin.close()
        if running.poll() is None:
            running.terminate()
        try:
            running.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        _forget_each_other(path)


def _forget_each_other(path: Path) -> None:
    """Remove the files by which the processes of a job, perhaps one that was killed, have found each other."""
    for name in (MEETING, GROUP):
        path.with_name(name).unlink(missing_ok=True)


class _Heard:
    """What the first process tells of its progress, told again here."""

    def __init__(self, told: TextIO, bars: ExitStack) -> None:
        self.told, self.bars, self.rest = told, bars, ""
        self.open: list[tuple[ExitStack, Bar]] = []

    def repeat(self) -> None:
        *lines, self.rest = (self.rest + self.told.read()).split("\n")
        for line in lines:
            self._repeat(json.loads(line))

    def _repeat(self, word: dict[str, Any]) -> None:
        if "bar" in word:
            stack = self.bars.enter_context(ExitStack())
            self.open.append((stack, stack.enter_context(bar(**word["bar"]))))
        elif "advance" in word:
            self.open[-1][1].advance(word["advance"])
        elif "end" in word:
            self.open.pop()[0].close()
        else:
            say(word["say"])


def _error(aside: Path, *, code: int) -> ComposerError:
    """Return what the first process that said why came to raise; one whose neighbour was killed only lost a connection."""
    found = {path: json.loads(path.read_text(encoding="utf-8")) for path in aside.glob("error-*.json")}
    nothing: tuple[Path | None, dict[str, Any]] = None, {}
    path, first = min(found.items(), key=lambda item: ("type" not in item[1], item[1]["at"]), default=nothing)
    if "type" in first:
        return KINDS[first["type"]](**{name: first[name] for name in ("what", "where", "expected", "got", "hint")})
    hint = f"the logs lie in {aside / LOGS}"
    ends = re.findall(r"Signal \d+ \((SIG[A-Z]+)\)", (aside / LAUNCHER).read_text(encoding="utf-8", errors="replace"))
    if path is None or ends:
        got, hint = ends[0] if ends else f"exit code {code}", f"if memory ran out, lower train.micro_batch; {hint}"
        return FaultError("a process was ended in the middle of training", got=got, hint=hint)
    return FaultError(f"process {path.stem.removeprefix('error-')} of the training failed: {first['what']}", hint=hint)
