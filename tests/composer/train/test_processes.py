"""Two processes train as one: the same order and counts, losses and weights to rounding; what fails is said, nothing hangs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
import torch

from composer.errors import FaultError
from composer.progress import Silence, listener
from composer.tables import ROUTING, TRACE, read
from composer.train import Train, calibrate, job
from composer.train.model import load
from composer.types import ModelRef
from tests.sockets import open_to_others

Run = Callable[..., dict[str, Any]]

ONE = {"batch_size": 7, "micro_batch": 3, "weight_decay": 0.1, "threads": 1, "device": "cpu", "checkpoint_every": 2}
DROPPING = {"adapter": {"name": "lora", "rank": 4, "dropout": 0.2}, "learning_rate": 3e-3}
MOE = {"name": "loramoe", "n_experts": 4, "rank": 2, "dropout": 0, "beta": 1, "knowledge": ["law"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},  # four rows and three, in micro-batches of three: one process has one more than the other
    "single": {"batch_size": 1},  # the second process never has a row
    "lora": {"adapter": {"name": "lora", "rank": 4}, "learning_rate": 3e-3},
    "shard": {"shard": True},
    "tied": {"shard": True},  # GPT-2 reads and writes tokens with one matrix
    "dropping": DROPPING,
    "experts": {"adapter": MOE, "learning_rate": 3e-3, "batch_size": 2, "micro_batch": 1},  # their term is a micro-batch's
    "checkpointing": {"adapter": MOE, "learning_rate": 3e-3, "batch_size": 2, "micro_batch": 1, "gradient_checkpointing": True},
    "lota": {"adapter": {"name": "lota", "calibration_steps": 2}, "learning_rate": 3e-3},
    "dora": {"adapter": {"name": "lora", "rank": 4, "dora": True}, "learning_rate": 3e-3},
    "osf": {"adapter": {"name": "osf"}, "learning_rate": 1e-4},
    "shira": {"adapter": {"name": "shira", "rank": 4}, "learning_rate": 3e-3},
}
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2")

SCRIPT = """
import sys
from pathlib import Path
from composer.train.adapters.full import Full
from composer.train.job import carry_out

class Stopped(BaseException):
    pass

for argument in sys.argv[1:]:
    path, _, stop = argument.partition("@")
    if stop:
        done = 0
        def after_step(*_):
            global done
            done += 1
            if done > int(stop):
                raise Stopped
        was, Full.after_step = Full.after_step, after_step
        try:
            carry_out(Path(path))
        except Stopped:
            Full.after_step = was
    carry_out(Path(path))
"""


class Ears(Silence):
    """Hears the steps of training and does something after so many."""

    def __init__(self, *, after: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.after, self.act, self.said, self.bars = after, act, list[str](), list[tuple[str, float | None]]()

    @contextmanager
    def bar(self, label: str, *, total: float | None, unit: str) -> Iterator[Any]:  # noqa: ARG002
        self.bars.append((label, total))
        ears, steps = self, 0

        class Shown:
            def advance(self, n: float = 1) -> None:
                nonlocal steps
                steps += int(n)
                if label == "train" and steps == ears.after:
                    ears.act()

        yield Shown()

    def say(self, line: str) -> None:
        self.said.append(line)


@contextmanager
def heard(ears: Ears) -> Iterator[Ears]:
    token = listener.set(ears)
    try:
        yield ears
    finally:
        listener.reset(token)


def rank_processes() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if "RANK" in environment(each)]


def environment(process: psutil.Process) -> dict[str, str]:
    try:
        return dict(process.environ())
    except psutil.Error:
        return {}


def rows_of(samples: pl.DataFrame, name: str) -> pl.DataFrame:
    return samples.head(5) if name == "single" else samples.head(45)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory, gpt2: ModelRef) -> ModelRef:
    """GPT-2 without its dropout, which every process draws for itself."""
    folder = tmp_path_factory.mktemp("tied")
    shutil.copytree(gpt2.path, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}))
    return ModelRef(path=str(folder))


@pytest.fixture(scope="module")
def pairs(
    tmp_path_factory: pytest.TempPathFactory, samples: pl.DataFrame, composed: Any, base: ModelRef, tied: ModelRef
) -> dict[str, Path]:  # fmt: skip
    """The folders that two processes left, for every setting; one of a sharded training that was stopped and went on."""
    root, made = tmp_path_factory.mktemp("pairs"), {}
    for name, fields in {**SETTINGS, "stopped": SETTINGS["shard"]}.items():
        given = composed(rows_of(samples, name)), samples
        spec = Train(**{**ONE, **fields, "processes": 2})
        model = tied if name == "tied" else base
        how: dict[str, Any] = {"model": model, "start": None, "spec": spec, "max_length": 64, "seed": 7}
        needed = {each: root / f"{name}-{each}" for each in spec.adapter.needs}
        if "mask" in needed:
            calibrate(given[0], rows_of(samples, name), folder=needed["mask"], **how)
        made[name] = job.write(*given, folder=root / name, given=needed, **how)
    (root / "script.py").write_text(SCRIPT)
    paths = [f"{path}@3" if name == "stopped" else str(path) for name, path in made.items()]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*TORCHRUN, root / "script.py", *paths], env=env, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: root / name for name in made}


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    files = [path for where in ("model", "adapter") for path in (folder / where).glob("*.safetensors")]
    return {name: tensor for path in files for name, tensor in load_file(path).items()}


def assert_same(one: Path, two: Path, *, losses: float, weights: float) -> None:
    left, right = (read(folder / "trace.parquet", TRACE) for folder in (one, two))
    assert left.drop("loss_nats").equals(right.drop("loss_nats"))
    np.testing.assert_allclose(right["loss_nats"].to_numpy(), left["loss_nats"].to_numpy(), atol=losses, rtol=0)
    ours, theirs = state_of(one), state_of(two)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, atol=weights, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["full", "single", "lora", "shard", "tied", "experts", "checkpointing", "lota", "dora", "osf", "shira"]
)
def test_two_processes_train_as_one(
    name: str, run: Run, samples: pl.DataFrame, base: ModelRef, tied: ModelRef, pairs: dict[str, Path], tmp_path: Path
) -> None:  # fmt: skip
    stats = run(tmp_path, model=tied if name == "tied" else base, rows=rows_of(samples, name), **{**ONE, **SETTINGS[name]})
    assert_same(tmp_path, pairs[name], losses=1e-4 if "shard" in SETTINGS[name] else 1e-5, weights=1e-5)
    told = json.loads((pairs[name] / "train.json").read_text())
    assert told["spec"] == json.loads((tmp_path / "train.json").read_text())["spec"]
    for key in ("steps", "samples", "n_tokens", "n_loss_tokens", "trainable_parameters"):
        assert told["stats"][key] == stats[key]
    if (tmp_path / "routing.parquet").is_file():
        one, two = (read(folder / "routing.parquet", ROUTING) for folder in (tmp_path, pairs[name]))
        assert one.drop("share").equals(two.drop("share"))
        np.testing.assert_allclose(two["share"].to_numpy(), one["share"].to_numpy(), atol=1e-6)
    assert not list(pairs[name].glob(".trainer"))


@pytest.mark.slow
def test_a_sharded_training_leaves_a_plain_model_and_goes_on_where_it_stopped(pairs: dict[str, Path]) -> None:
    network, tokenizer = load(ModelRef(path=str(pairs["shard"] / "model")), device="cpu")
    assert network.config.architectures == ["LlamaForCausalLM"]
    assert network(input_ids=torch.tensor([tokenizer("def f")["input_ids"]])).logits.isfinite().all()
    assert_same(pairs["shard"], pairs["stopped"], losses=0, weights=0)


@pytest.mark.slow
def test_an_interrupted_training_leaves_no_process_and_goes_on(
    run: Run, samples: pl.DataFrame, pairs: dict[str, Path], tmp_path: Path
) -> None:
    ids: list[int] = []

    def interrupt() -> None:
        ids.extend(each.pid for each in rank_processes())
        raise KeyboardInterrupt

    settings = {**ONE, **DROPPING, "processes": 2, "rows": rows_of(samples, "dropping")}
    with heard(Ears(after=3, act=interrupt)), pytest.raises(KeyboardInterrupt):
        run(tmp_path, **settings)
    assert len(ids) == 2
    assert psutil.wait_procs([psutil.Process(each) for each in ids if psutil.pid_exists(each)], timeout=10)[1] == []
    shutil.copytree(tmp_path / ".trainer", tmp_path / "alone/.trainer")
    run(tmp_path / "alone", **{**settings, "processes": 1})
    with heard(Ears()) as ears:
        stats = run(tmp_path, **settings)
    assert ears.said[0].startswith("training goes on after step ")
    assert ears.bars == [("encode", 45), ("train", 7)]
    assert_same(pairs["dropping"], tmp_path, losses=0, weights=0)
    assert_same(tmp_path / "alone", tmp_path, losses=0.1, weights=0.1)  # another dropout
    assert stats == json.loads((pairs["dropping"] / "train.json").read_text())["stats"]
    assert sorted(path.name for path in (tmp_path / ".processes").iterdir()) == [
        "job.json", "launcher.log", "logs", "progress.jsonl", "stats.json",
    ]  # fmt: skip


@pytest.mark.slow
def test_what_a_process_raises_comes_back(run: Run, base: ModelRef, tmp_path: Path) -> None:
    network, tokenizer = load(base, device="cpu")
    with torch.no_grad():
        network.model.norm.weight.fill_(float("nan"))
    network.save_pretrained(tmp_path / "broken")
    tokenizer.save_pretrained(tmp_path / "broken")
    broken = ModelRef(path=str(tmp_path / "broken"))
    with pytest.raises(FaultError, match="the loss is nan in domains") as one:
        run(tmp_path / "one", model=broken)
    with pytest.raises(FaultError) as two:
        run(tmp_path / "two", model=broken, processes=2)
    assert str(two.value) == str(one.value)


@pytest.mark.slow
def test_a_killed_process_ends_the_others(run: Run, tmp_path: Path) -> None:
    reached = []

    def kill_the_second() -> None:
        reached.extend(open_to_others(os.getpid()))
        next(each for each in rank_processes() if environment(each)["RANK"] == "1").send_signal(signal.SIGKILL)

    expected = "a process was ended in the middle of training; got SIGKILL; if memory ran out"
    with heard(Ears(after=2, act=kill_the_second)), pytest.raises(FaultError, match=expected):
        run(tmp_path, processes=2, batch_size=1, epochs=10)
    assert rank_processes() == []
    assert reached == []


@pytest.mark.slow
def test_a_process_ends_with_whoever_started_it(samples: pl.DataFrame, composed: Any, base: ModelRef, tmp_path: Path) -> None:
    given = composed(samples), samples
    path = job.write(*given, model=base, start=None, spec=Train(device="cpu"), max_length=64, seed=7, folder=tmp_path)
    alone = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    command = [sys.executable, "-m", "composer.train.job", str(path), job.WATCHED]
    with subprocess.Popen(command, env={**os.environ, **alone}, stdin=subprocess.PIPE) as waiting:  # for a second one
        waiting.communicate(timeout=60)
    assert waiting.returncode == 1
