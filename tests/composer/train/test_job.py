"""A job comes back as it was written, and what a process came to say is heard as if there were one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from composer.errors import FaultError, ModelError, SpecError
from composer.train import Moving, Train, job, launch, shards
from composer.types import ModelRef

Run = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(("name", "kind"), [("ModelError", ModelError), ("FaultError", FaultError)])
def test_the_first_that_says_why_is_heard(name: str, kind: type[Exception], tmp_path: Path) -> None:
    lost = {"what": "RuntimeError: Connection closed by peer", "at": 1.0}
    why = {"what": "no model", "where": "base_model.path", "expected": "a", "got": "b", "hint": "c", "type": name, "at": 2.0}
    later = {**why, "what": "another", "at": 3.0}
    for rank, each in enumerate((later, lost, why)):
        (tmp_path / f"error-{rank}.json").write_text(json.dumps(each))
    error = launch._error(tmp_path, code=1)
    assert type(error) is kind
    assert str(error) == "base_model.path: no model; expected a; got b; c"


def test_other_errors_name_the_process_and_its_log(tmp_path: Path) -> None:
    (tmp_path / launch.LAUNCHER).write_text("")
    assert "a process was ended in the middle of training; got exit code 3" in str(launch._error(tmp_path, code=3))
    (tmp_path / "error-1.json").write_text(json.dumps({"what": "OSError: No space left on device", "at": 1.0}))
    expected = f"process 1 of the training failed: OSError: No space left on device; the logs lie in {tmp_path / 'logs'}"
    assert str(launch._error(tmp_path, code=1)) == expected


def test_a_job_comes_back_as_it_was_written(
    samples: pl.DataFrame, composed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    seen: dict[str, Any] = {}
    monkeypatch.setattr(job, "train", lambda *tables, **given: seen.update(given, tables=tables) or {"steps": 1})
    spec = Train(adapter={"name": "lora", "targets": ["q_proj"]}, processes=3, device="cpu", report_to=())
    model, rows = ModelRef(path="here", chat_template="chatml"), composed(samples)
    moving = Moving(reserve=rows, held_out=samples, weights={"law": 0.25, "code": 0.75}, unit="tokens", references={"law": 1.5})
    before = {
        "model": model, "start": tmp_path / "before", "spec": spec, "max_length": 9, "loss_on": "last", "seed": 5,
        "folder": tmp_path, "given": {"mask": tmp_path / "mask"},
    }  # fmt: skip
    assert job.carry_out(job.write(rows, samples, moving, **before)) == {"steps": 1}
    assert all(found.equals(given) for found, given in zip(seen.pop("tables"), (rows, samples), strict=True))
    found = seen.pop("moving")
    assert (found.weights, found.unit, found.references) == (moving.weights, "tokens", {"law": 1.5})
    assert found.reserve.equals(rows)
    assert found.held_out.equals(samples)
    assert seen == before


def test_one_process_alone_exchanges_nothing() -> None:
    parts = [{"labels": torch.ones(2, 3)}, {"labels": torch.ones(1, 3)}]
    assert list(shards.evened(parts, device="cpu")) == [(parts[0], False), (parts[1], True)]
    assert shards.agreed(5, device="cpu") == 5
    assert shards.rank() is None
    assert shards.first()
    value = torch.arange(3)
    assert shards.of_every(value, device="cpu") == [value]
    assert shards.whole(value) is value


def test_what_cannot_be(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="shard: only full fine-tuning; expected adapter full; got lora; leave shard out"):
        Train(adapter="lora", shard=True)
    with pytest.raises(SpecError, match="processes: input should be greater than or equal to 1"):
        Train(processes=0)
    assert Train(processes=4, shard=True).identity() == Train().identity()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        SpecError, match=r"train\.processes: more processes than GPUs; expected at most 1; got 2; a GPU holds one"
    ):
        run(tmp_path, processes=2, device="auto")
