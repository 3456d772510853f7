"""The two processes speak in whole lines, neither waits for the other in vain, and none is left behind.

No vLLM is needed: a stand-in for the child, or for the library in the real child, is put in front of the search path.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from composer.errors import FaultError, ModelError
from probes.engines.vllm_child.process import Child, last_lines

ECHO = """
    import json, os, sys
    hear, tell = os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb")
    for line in hear:
        for answer in json.loads(line)["answers"]:
            tell.write(json.dumps(answer).encode() + b"\\n")
            tell.flush()
"""
Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start the module ``stand_in``, or the real child with a package ``vllm`` of the given text."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    started: list[Child] = []

    def begin(text: str, *, module: str = "stand_in") -> Child:
        path = tmp_path / "stand_in.py" if module == "stand_in" else tmp_path / "vllm" / "__init__.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        search = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        started.append(Child(environment={"PYTHONPATH": search}, where="a/model", module=module))
        return started[-1]

    yield begin
    for child in started:
        child.end()


def gone(pid: int, *, within: float) -> bool:
    begun = time.monotonic()
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() - begun > within:
            return False
        time.sleep(0.05)
    return True


def noted(path: Path) -> int:
    """Wait for a process's number that a stand-in writes."""
    for _ in range(400):
        if path.is_file() and (text := path.read_text()).endswith("\n"):
            return int(text)
        time.sleep(0.05)
    raise AssertionError("the stand-in has not started")


def test_lines_of_any_length_go_both_ways(start: Start, tmp_path: Path) -> None:
    child = start(ECHO)
    wide = [[row, list(range(50_000))] for row in range(3)]
    assert list(child.ask({"answers": wide}, answers=3)) == wide
    assert list(child.ask({"answers": [0.1, float("inf"), "é\n"]}, answers=3)) == [0.1, float("inf"), "é\n"]
    assert list(child.ask({"answers": []}, answers=0)) == []
    pid = child.pid
    child.end()
    assert gone(pid, within=0)
    assert not list(tmp_path.glob("*.log"))
    with pytest.raises(FaultError, match="a/model: vLLM is no longer there; open the engine again"):
        list(child.ask({"answers": []}, answers=0))


def test_answers_that_nobody_takes_do_not_become_others(start: Start) -> None:
    child = start(ECHO)
    answers = child.ask({"answers": [1, 2, 3]}, answers=3)
    assert next(answers) == 1
    answers.close()
    assert gone(child.pid, within=0)


def test_a_child_that_is_killed_in_the_middle_is_told_with_its_last_lines(start: Start) -> None:
    child = start(
        """
        import os, sys, time
        print("allocating\\nbusy  with it", flush=True)
        os.write(int(sys.argv[2]), b"1\\n")
        time.sleep(60)
        """
    )
    answers = child.ask({}, answers=2)
    assert next(answers) == 1
    threading.Timer(0.3, os.kill, (child.pid, signal.SIGKILL)).start()
    begun = time.monotonic()
    told = r"a/model: vLLM ended in the middle of its work; got signal SIGKILL, after: allocating \| busy with it; if memory"
    with pytest.raises(FaultError, match=told) as caught:
        next(answers)
    assert time.monotonic() - begun < 3
    assert "busy" in Path(str(caught.value).rpartition("its log: ")[2]).read_text()


def test_a_child_that_does_not_listen_is_not_written_to_for_ever(start: Start) -> None:
    child = start("import time; time.sleep(0.5)")
    with pytest.raises(FaultError, match="exit code 0, after: no word from it"):
        list(child.ask({"text": "x" * 1_000_000}, answers=1))


def test_what_fails_before_the_first_answer_is_the_models_fault(start: Start) -> None:
    child = start("raise ImportError('libcudart.so.13 is not there')", module="probes.engines.vllm_child")
    with pytest.raises(ModelError, match=r"vLLM does not run this model so; got exit code 1, .*ImportError: libcudart"):
        list(child.ask({"adapter": None}, answers=1))


def test_a_start_that_takes_too_long_is_ended(start: Start) -> None:
    child = start("import time; print('loading weights', flush=True); time.sleep(60)", module="probes.engines.vllm_child")
    with pytest.raises(FaultError, match=r"not ready in time; expected an answer within 6 s; got loading weights; raise"):
        list(child.ask({"adapter": None}, answers=1, timeout=6))
    assert gone(child.pid, within=0)


GRANDCHILD = """
    import pathlib, subprocess, sys, time
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path(__file__).with_name("other").write_text(f"{other.pid}\\n")
    time.sleep(600)
"""


def test_what_the_child_started_ends_with_it(start: Start, tmp_path: Path) -> None:
    child = start(GRANDCHILD, module="probes.engines.vllm_child")
    threading.Timer(0.1, lambda: os.kill(child.pid, signal.SIGKILL) if noted(tmp_path / "vllm" / "other") else None).start()
    with pytest.raises(FaultError, match="SIGKILL"):
        list(child.ask({"adapter": None}, answers=1))
    assert gone(noted(tmp_path / "vllm" / "other"), within=2)


def test_the_child_ends_with_its_parent(start: Start, tmp_path: Path) -> None:
    start(GRANDCHILD, module="probes.engines.vllm_child").end()  # writes the stand-in
    (tmp_path / "vllm" / "other").unlink(missing_ok=True)
    script = f"""
        import pathlib
        from probes.engines.vllm_child.process import Child
        child = Child(environment={{}}, where="a/model")
        pathlib.Path({str(tmp_path / "child")!r}).write_text(f"{{child.pid}}\\n")
        list(child.ask({{"adapter": None}}, answers=1))
    """
    search = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, "PYTHONPATH": search, "TMPDIR": str(tmp_path)}
    )
    pids = [noted(tmp_path / "child"), noted(tmp_path / "vllm" / "other")]
    parent.kill()
    parent.wait()
    assert all(gone(pid, within=10) for pid in pids)


def test_the_last_lines_leave_out_the_frames_of_a_traceback(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n\nTraceback:\n  File 1\n    x()\n    ^^^\nValueError: no  room\n")
    assert last_lines(log, n=3) == "two | Traceback: | ValueError: no room"
    log.write_bytes(b"x" * 100_000 + b"\nend \xff")
    assert last_lines(log).endswith("end �")
