"""A training that was stopped at any step ends in the bits of one that was not, and a checkpoint is whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer.errors import FaultError
from composer.fingerprint import sha256
from composer.train import ADAPTERS, Moving, Train, checkpoint, job
from composer.train.adapters.full import Full
from composer.types import ModelRef

Run = Callable[..., dict[str, Any]]
PICKLES = {".bin", ".pt", ".pth", ".pkl"}


class Stopped(BaseException):
    """Stands for a kill: nothing catches it."""


def result(folder: Path) -> dict[str, str]:
    """The hashes of all that a training leaves."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the training be stopped right after so many steps of the optimiser."""
    done = 0

    def after_step(*_: Any) -> None:
        nonlocal done
        done += 1
        if done > steps:
            raise Stopped

    monkeypatch.setattr(Full, "after_step", after_step)


@pytest.mark.parametrize("stops", [(1,), (2,), (5,), (7,), (3, 1, 2)])
@pytest.mark.parametrize("every", [1, 3])
def test_a_stopped_training_ends_in_the_same_bits(
    run: Run, stops: tuple[int, ...], every: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = run(tmp_path / "whole", checkpoint_every=every)
    for steps in stops:
        with monkeypatch.context() as patched:
            stop_after(steps, patched)
            with pytest.raises(Stopped):
                run(tmp_path / "stopped", checkpoint_every=every)
    left = checkpoint.latest(tmp_path / "stopped/.trainer")
    assert left is not None or stops == (1,) or every > stops[0]
    assert run(tmp_path / "stopped", checkpoint_every=every) == whole
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")


@pytest.mark.parametrize("adapter", [
    {"name": "lora", "rank": 4, "dropout": 0.2}, {"name": "osf"},
    pytest.param({"name": "lora", "rank": 4, "dora": True, "dropout": 0.2}, marks=pytest.mark.slow),
    pytest.param({"name": "shira", "rank": 4}, marks=pytest.mark.slow),
])  # fmt: skip
def test_so_does_one_with_an_adapter_and_chance(
    run: Run, adapter: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    member = ADAPTERS[adapter["name"]]
    own = member.after_step
    whole = run(tmp_path / "whole", adapter=adapter, checkpoint_every=2, epochs=2)
    count = 0

    def after_step(adapter: Any, model: Any) -> None:
        nonlocal count
        count += 1
        if count == 6:
            raise Stopped
        own(adapter, model)

    with monkeypatch.context() as patched:
        patched.setattr(member, "after_step", after_step)
        with pytest.raises(Stopped):
            run(tmp_path / "stopped", adapter=adapter, checkpoint_every=2, epochs=2)
    assert run(tmp_path / "stopped", adapter=adapter, checkpoint_every=2, epochs=2) == whole
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")


def test_one_checkpoint_lies_there_without_a_pickle(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stop_after(5, monkeypatch)
    with pytest.raises(Stopped):
        run(tmp_path, checkpoint_every=2)
    assert [path.name for path in (tmp_path / ".trainer").iterdir()] == ["checkpoint-4"]
    names = sorted(path.name for path in (tmp_path / ".trainer/checkpoint-4").iterdir())
    assert names == ["chance.safetensors", "optimizer.safetensors", "state.json", "trainer_state.json", "weights.safetensors"]
    assert not [path for path in tmp_path.rglob("*") if path.suffix in PICKLES]


def test_a_full_disk_leaves_the_checkpoint_before(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import safetensors.torch

    whole, save, calls = run(tmp_path / "whole", checkpoint_every=2), safetensors.torch.save_file, 0

    def fail_at_the_second(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # three files a checkpoint
            raise OSError(28, "No space left on device")
        save(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(safetensors.torch, "save_file", fail_at_the_second)
        told = r"^step 4: no checkpoint could be written: .*No space left on device.* that of step 2 is whole"
        with pytest.raises(FaultError, match=told):
            run(tmp_path / "out", checkpoint_every=2)
    left = checkpoint.latest(tmp_path / "out/.trainer")
    assert left is not None
    assert left.name == "checkpoint-2"
    assert run(tmp_path / "out", checkpoint_every=2) == whole
    assert result(tmp_path / "out") == result(tmp_path / "whole")


def test_a_checkpoint_that_was_cut_and_one_of_another_training(
    run: Run, samples: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched:
        stop_after(3, patched)
        with pytest.raises(Stopped):
            run(tmp_path, checkpoint_every=2)
    with pytest.raises(FaultError, match="a checkpoint of another training; remove the folder"):
        run(tmp_path, rows=samples.filter(pl.col("domain") == "law"))
    weights = tmp_path / ".trainer/checkpoint-2/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(FaultError, match="a checkpoint that cannot be read"):
        run(tmp_path)


JOB = """
import json, os, signal, sys
from pathlib import Path
import transformers, peft, polars  # before the forks, which then need not
from composer.progress import Silence, listener
from composer.spec import rng
from composer.train.job import carry_out

whole, killed = map(Path, sys.argv[1:])

def fit(path, told):
    class Listener(Silence):
        def advance(self, n=1):
            os.write(told, b".")
    listener.set(Listener())
    carry_out(path)

def forked(path, kill_after):
    ears, mouth = os.pipe()
    child = os.fork()
    if not child:
        fit(path, mouth)
        os._exit(0)
    os.close(mouth)
    heard = 0
    while os.read(ears, 1):
        heard += 1
        if heard == kill_after:
            os.kill(child, signal.SIGKILL)
            break
    os.close(ears)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

dice = rng(3, "kills", whole.parents[1].name)
ends = [forked(whole, None), *(forked(killed, int(dice.integers(4, 18))) for _ in range(10)), forked(killed, None)]
print(json.dumps(ends))
"""
LAW = {"law": {"name": "bandit", "every": 3, "floor": 0.1}}


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields", [{"epochs": 6}, {"epochs": 6, "adapter": {"name": "lora", "dropout": 0.1}}, LAW], ids=["full", "lora", "law"]
)
def test_ten_kills_at_random_moments(samples: pl.DataFrame, composed: Any, base: ModelRef, fields: Any, tmp_path: Path) -> None:
    spec = Train(**{"batch_size": 2, "threads": 1, "device": "cpu", "checkpoint_every": 3, **fields})
    rows, moving = composed(samples), None
    if spec.law is not None:
        rows = pl.concat([composed(samples.head(40)).with_columns(repeat=pl.lit(i, pl.UInt32)) for i in range(6)])
        moving = Moving(reserve=rows, held_out=samples.tail(20), weights={"law": 0.5, "code": 0.5}, unit="samples")
    jobs = [
        job.write(rows, samples, moving, model=base, start=None, spec=spec, max_length=64, seed=7, folder=tmp_path / name)
        for name in ("whole", "killed")
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", JOB, *map(str, jobs)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == [0, *[-signal.SIGKILL] * 10, 0]
    left = [
        {name: told for name, told in result(tmp_path / folder).items() if not name.startswith(".processes/")}
        for folder in ("whole", "killed")
    ]
    assert left[0] == left[1]
    assert ("weights.parquet" in left[0]) == (moving is not None)
