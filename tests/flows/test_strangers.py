"""What goes wrong in somebody's first minutes: one line each, with the way out and the promised exit code."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli import invoke

ROOT = Path(__file__).parents[2]
ENGINE = "engine=vllm"


@pytest.fixture
def here(tmp_path: Path, small_world: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small world with a recipe of init, and what is wrong beside it."""
    small_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n")
    shutil.copytree(tmp_path / "models" / "my-base", tmp_path / "mute", symlinks=False)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        (tmp_path / "mute" / name).unlink(missing_ok=True)
    assert invoke(["init", "data", "--base-model", "models/my-base", "--out", "mine.yaml"]) == 0
    return tmp_path


WRONG = [
    (["run", "mien.yaml"], "RECIPE: no such recipe; expected a YAML file; got mien.yaml; did you mean 'mine.yaml'?"),
    (["run", "empty/mine.yaml"], "sft-composer init FOLDER writes one for a folder of data"),
    (["rnu", "mine.yaml"], "No such command 'rnu'. Did you mean 'run'?; see sft-composer --help"),
    (["run"], "Missing argument 'recipe'; see sft-composer run --help"),
    (["run", "mine.yaml", "--dry-rnu"], "see sft-composer run --help"),
    (["run", "mine.yaml", "laws=uniform"], "laws: unknown field of Recipe; did you mean 'law'?"),
    (["run", "mine.yaml", "law=unifrom"], "law.name: unknown law 'unifrom'; did you mean 'uniform'?"),
    (["run", "mine.yaml", "base_model.path=none"], "base_model.path: no model at this path; expected a folder"),
    (["run", "mine.yaml", "base_model.path=mute", "--dry-run"], "base_model.path: no tokenizer in this folder; expected"),
    (["doctor", "data", "--model", "mute"], "base_model.path: no tokenizer in this folder"),
    (["doctor", "none"], "TARGETS: no such file; got none"),
    (["doctor", "empty"], "TARGETS: a folder without supported files"),
    (["run", "mine.yaml", "sources.0.path=empty", "--plain"], "sources.code.path: a folder without supported files"),
    (["ingest", "mine.yaml", "sources.0.path=foreign.csv", "--plain"], "sources.code.path: no rows; expected a row of a known"),
    (["run", "mine.yaml", "sources.0.path=org/none", "--plain"], "sources.code.path: no commit for the Hub dataset"),
]  # fmt: skip


@pytest.mark.usefixtures("here")
def test_what_is_wrong_is_said_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for arguments, says in WRONG:
        assert invoke(arguments) == 2, arguments
        told = capsys.readouterr().err
        [line] = [line for line in told.splitlines() if line.startswith("error:")]
        assert says in line
        assert "Traceback" not in told


def test_a_missing_engine_is_missed_before_the_work(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.engines.vllm.find_spec", lambda _: None)
    assert invoke(["probe", "mine.yaml", ENGINE, "--plain"]) == 2
    assert "engine: vLLM is not installed; got vllm; install sft-composer[vllm]" in capsys.readouterr().err
    assert not list((here / "store").glob("source/*")), "nothing was done in vain"
    assert invoke(["ingest", "mine.yaml", ENGINE, "--plain"]) == 0, "ingest asks no model"


def test_an_empty_store_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert invoke(["ls", "--store", str(here / "nowhere")]) == 0
    assert f"no artifact in {here / 'nowhere'}; sft-composer run RECIPE makes them" in capsys.readouterr().out


def command(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "flows", *arguments]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


@pytest.mark.usefixtures("here")
def test_a_disk_that_is_full_is_a_fault_of_the_store() -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))

    _, told = (full := command("ingest", "mine.yaml", "--plain", preexec_fn=no_room)).communicate(timeout=120)
    assert full.returncode == 3, told
    assert "error: store: cannot build source/" in told
    assert "File too large" in told
    assert "check space and rights, or choose another store; what was complete stays complete" in told


def test_a_store_that_is_a_file_is_a_fault(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("")
    assert invoke(["ingest", "mine.yaml", "--plain", "--store", "file"]) == 3
    assert "error: file: cannot build source/" in capsys.readouterr().err


def test_an_interrupt_is_one_line_and_two_runs_share_a_store(here: Path) -> None:
    stopped = command("ingest", "mine.yaml", "--plain")
    while not (here / "store" / ".partial").exists() and stopped.poll() is None:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    _, told = stopped.communicate(timeout=120)
    assert stopped.returncode == 3, told
    assert "error: stopped; what was complete stays complete, run again to go on" in told
    assert "Traceback" not in told

    both = [command("ingest", "mine.yaml", "--plain", "--json") for _ in range(2)]
    shown = [json.loads(each.communicate(timeout=240)[0]) for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert shown[0]["steps"][0]["key"] == shown[1]["steps"][0]["key"]
    assert len(list((here / "store" / "source").iterdir())) == 3
