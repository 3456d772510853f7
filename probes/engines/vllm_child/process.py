"""The parent's side: start the child, speak with it, never wait for one that is gone, and end it whatever happens."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from composer.errors import ComposerError, FaultError, ModelError

MODULE = "probes.engines.vllm_child"
LOOK_MS = 200
"""How often the parent looks whether the child lives, while nothing comes."""
PATIENCE_S = 10.0
"""How long the child may take to end by itself; more than it gives itself."""


class Child:
    """A process that answers lines of JSON with lines of JSON; ``where`` names the model in errors."""

    def __init__(self, *, environment: Mapping[str, str], where: str, module: str = MODULE) -> None:
        self._where = where
        self._ready = self._ended = self._keep_log = False
        self._rest = b""
        log, path = tempfile.mkstemp(prefix="sft-composer-vllm-", suffix=".log")
        self._log = Path(path)
        hear, self._tell = os.pipe()
        self._hear, tell = os.pipe()
        os.set_blocking(self._tell, False)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(hear), str(tell)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment}, pass_fds=(hear, tell), start_new_session=True,
            )  # fmt: skip
        finally:
            for descriptor in (log, hear, tell):
                os.close(descriptor)

    @property
    def pid(self) -> int:
        """The process's number, which is that of its group too."""
        return self._process.pid

    def ask(self, message: Mapping[str, Any], *, answers: int, timeout: float = float("inf")) -> Generator[Any, None, None]:
        """Send a line and yield the lines that come back for it, ``answers`` of them.

        A child that is left in the middle of its answers is ended, since what it still says would be taken for the next ones.

        Raises
        ------
        ModelError
            Where the child ends with a fault before its first answer.
        FaultError
            Where it ends in any other way, or says nothing for ``timeout`` seconds.
        """
        if self._ended:
            raise FaultError("vLLM is no longer there", where=self._where, hint="open the engine again")
        try:
            self._send(json.dumps(message, separators=(",", ":")).encode() + b"\n", timeout)
            for _ in range(answers):
                line = self._line(timeout)
                self._ready = True
                yield line
        except BaseException:
            self._kill()
            raise

    def end(self) -> None:
        """Let the child end, and kill what is left of it and of its own children."""
        if self._ended:
            return
        os.close(self._tell)
        self._tell = -1
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._kill()

    def _kill(self) -> None:
        if self._ended:
            return
        self._ended = True
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for descriptor in (self._tell, self._hear):
            if descriptor >= 0:
                os.close(descriptor)
        if not self._keep_log:
            self._log.unlink(missing_ok=True)

    def _send(self, line: bytes, timeout: float) -> None:
        left = memoryview(line)
        while left:
            self._wait(self._tell, select.POLLOUT, timeout)
            try:
                left = left[os.write(self._tell, left) :]
            except BrokenPipeError:
                raise self._fallen() from None

    def _line(self, timeout: float) -> Any:
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            self._wait(self._hear, select.POLLIN, timeout)
            parts.append(os.read(self._hear, 1 << 20))
            if not parts[-1]:
                raise self._fallen()
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return json.loads(line)

    def _wait(self, descriptor: int, event: int, timeout: float) -> None:
        begun = time.monotonic()
        poll = select.poll()
        poll.register(descriptor, event)
        while not poll.poll(LOOK_MS):
            if self._process.poll() is not None and not poll.poll(0):  # its last words may have come in between
                raise self._fallen()
            if time.monotonic() - begun > timeout:
                self._keep_log = True
                raise FaultError(
                    "vLLM was not ready in time", where=self._where, expected=f"an answer within {timeout:g} s",
                    got=last_lines(self._log) or "no word from it", hint=f"raise startup_timeout; its log: {self._log}",
                )  # fmt: skip

    def _fallen(self) -> ComposerError:
        self._keep_log = True
        with suppress(subprocess.TimeoutExpired):  # a pipe closes a little before its process ends
            self._process.wait(PATIENCE_S)
        self._kill()
        code = self._process.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        got = f"{how}, after: {last_lines(self._log) or 'no word from it'}"
        if not self._ready and code > 0:
            hint = f"its log: {self._log}"
            return ModelError("vLLM does not run this model so", where=self._where, got=got, hint=hint)
        hint = f"if memory ran out, lower kv_cache_memory_bytes, gpu_memory_utilization or max_num_seqs; its log: {self._log}"
        return FaultError("vLLM ended in the middle of its work", where=self._where, got=got, hint=hint)


def last_lines(log: Path, n: int = 4) -> str:
    """Return the last lines of a log that tell something: those of a traceback's frames are indented and left out."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        lines = file.read().decode(errors="replace").splitlines()
    return " | ".join(" ".join(line.split())[:400] for line in [line for line in lines if line[:1].strip()][-n:])
