"""One training as files, and a process that carries out its part of it.

`train` with ``processes`` above one writes such a job and starts its processes. The same file trains on several nodes that
share a disk; there it is written with `write`, and started on each node with torchrun:

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        -m composer.train.job FOLDER/.processes/job.json

Started again it goes on from the last checkpoint. The first process writes the result into FOLDER, as `train` does.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from composer.errors import ComposerError
from composer.fingerprint import write_json
from composer.progress import listener
from composer.spec import Spec
from composer.train.steering import Moving
from composer.train.train import Train, train
from composer.types import LossOn, ModelRef

ASIDE, JOB, PROGRESS, STATS, GROUP = ".processes", "job.json", "progress.jsonl", "stats.json", "group"
WATCHED = "--while-stdin-is-open"
"""The flag with which a process ends as soon as whoever started it is gone."""


class Job(Spec):
    """What `train` is given, with ``tables`` as names of Parquet files beside the job and ``moving`` without its own."""

    tables: dict[str, str]
    model: ModelRef
    start: str | None
    spec: Train
    max_length: int
    loss_on: LossOn
    seed: int
    folder: str
    moving: dict[str, Any] | None = None
    given: dict[str, str] = {}


def write(
    composition: pl.DataFrame, samples: pl.DataFrame, moving: Moving | None = None, *, model: ModelRef, start: Path | None,
    spec: Train, max_length: int, loss_on: LossOn = "all", seed: int, folder: Path, given: Mapping[str, Path] | None = None,
) -> Path:  # fmt: skip
    """Write a job into the hidden part of its folder and return the path of its file; parameters are those of `train`."""
    aside = folder / ASIDE
    aside.mkdir(parents=True, exist_ok=True)
    for left in (*aside.glob("error-*.json"), aside / PROGRESS):
        left.unlink(missing_ok=True)
    needed = {} if moving is None else {field.name: getattr(moving, field.name) for field in dataclasses.fields(moving)}
    tables = {name: value for name, value in needed.items() if isinstance(value, pl.DataFrame)}
    tables |= {"composition": composition, "samples": samples}
    for name, frame in tables.items():
        frame.write_parquet(aside / f"{name}.parquet")
    job = Job(
        tables={name: f"{name}.parquet" for name in tables}, model=model, start=str(start) if start else None, spec=spec,
        max_length=max_length, loss_on=loss_on, seed=seed, folder="..",
        moving=None if moving is None else {name: value for name, value in needed.items() if name not in tables},
        given={name: str(path) for name, path in (given or {}).items()},
    )  # fmt: skip
    write_json(aside / JOB, job.model_dump(mode="json"))
    return aside / JOB


def carry_out(path: Path) -> dict[str, Any]:
    """Carry out a job as one of the processes that torchrun started, and return the stats of `train`."""
    import torch

    job, aside = Job(**json.loads(path.read_text(encoding="utf-8"))), path.parent
    if job.spec.device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    tables: dict[str, Any] = {name: pl.read_parquet(aside / file) for name, file in job.tables.items()}
    composition, samples = tables.pop("composition"), tables.pop("samples")
    return train(
        composition, samples, moving=None if job.moving is None else Moving(**tables, **job.moving), model=job.model,
        start=Path(job.start) if job.start else None, spec=job.spec, max_length=job.max_length, loss_on=job.loss_on,
        seed=job.seed, folder=(aside / job.folder).resolve(), given={name: Path(path) for name, path in job.given.items()},
    )  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Carry out a job; what goes wrong is left as ``error-<rank>.json`` beside it and ends the process at once."""
    import torch

    path, rank = Path(arguments[0]), int(os.environ["RANK"])
    if WATCHED in arguments:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        if WATCHED in arguments:
            _join(path)
        if rank:
            carry_out(path)
        else:
            with (path.parent / PROGRESS).open("a", encoding="utf-8", buffering=1) as told:
                listener.set(_Told(told))
                write_json(path.with_name(STATS), carry_out(path))
    except BaseException as error:
        traceback.print_exc()
        write_json(path.with_name(f"error-{rank}.json"), _as_json(error))
        sys.stderr.flush()
        os._exit(error.exit_code if isinstance(error, ComposerError) else 1)  # no waiting for processes that wait for this one
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _join(path: Path) -> None:
    """Join the other processes of this machine by a file, before a library would do so by a port."""
    import torch

    on_gpu = Job(**json.loads(path.read_text(encoding="utf-8"))).spec.device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=path.with_name(GROUP).resolve().as_uri(), rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )  # fmt: skip


def _as_json(error: BaseException) -> dict[str, Any]:
    parts = {"what": f"{type(error).__name__}: {error}"}
    if isinstance(error, ComposerError):
        names = ("what", "where", "expected", "hint")
        parts = {name: getattr(error, name) for name in names} | {"got": str(error.got), "type": type(error).__name__}
    return {**parts, "at": time.time()}


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


class _Told:
    """A listener that writes down what it hears, a line of JSON for each word."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    @contextmanager
    def bar(self, label: str, *, total: float | None, unit: str) -> Iterator[_Told]:
        self._tell(bar={"label": label, "total": total, "unit": unit})
        yield self
        self._tell(end=True)

    def advance(self, n: float = 1) -> None:
        self._tell(advance=n)

    def say(self, line: str) -> None:
        self._tell(say=line)

    def _tell(self, **word: Any) -> None:
        self.file.write(json.dumps(word) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
