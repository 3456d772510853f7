"""The child: ``python -m probes.engines.vllm_child HEAR TELL``, two numbers of pipes that it was started with."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

from probes.engines.vllm_child.work import Work

GRACE_S = 5.0
"""How long the child may take to end by itself once its parent has closed the pipe, or is gone."""

Jobs = SimpleQueue[dict[str, Any] | None]


def main(hear: int, tell: int) -> None:
    """Answer jobs until the parent closes its pipe; a fault is told in the log and by the exit code."""
    jobs: Jobs = SimpleQueue()
    threading.Thread(target=_listen, args=(hear, jobs), daemon=True).start()
    code = 0
    try:
        _serve(jobs, tell)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of vLLM's would hold up an ordinary end


def _serve(jobs: Jobs, tell: int) -> None:
    settings = jobs.get()
    if settings is None:
        return
    work = Work(settings)
    with os.fdopen(tell, "wb") as out:

        def answer(lines: Sequence[Any]) -> None:
            out.write(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines))
            out.flush()

        answer([work.facts()])
        while (job := jobs.get()) is not None:
            for done in work.do(job):
                answer(done)
    work.close()


def _listen(hear: int, jobs: Jobs) -> None:
    """Read jobs beside the work, so that a parent that goes away is noticed in the middle of it."""
    try:
        with os.fdopen(hear, "rb") as lines:
            for line in lines:
                jobs.put(json.loads(line))
    finally:
        jobs.put(None)
        time.sleep(GRACE_S)
        os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
