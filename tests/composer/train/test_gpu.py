"""Every adapter on a GPU: the losses of the CPU, the same bits after a stop, and half precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from composer.fingerprint import sha256
from composer.tables import TRACE, read
from composer.train import ADAPTERS
from composer.train.adapters import Adapter

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use here")]
Run = Callable[..., dict[str, Any]]


@pytest.fixture(params=sorted(ADAPTERS))
def word(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def losses(folder: Path) -> np.ndarray:
    return read(folder / "trace.parquet", TRACE)["loss_nats"].to_numpy()


def test_losses_are_those_of_the_cpu(word: str, run: Run, tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        run(tmp_path / device, adapter={"name": word}, device=device, precision="float32", learning_rate=1e-3)
    assert losses(tmp_path / "cuda") == pytest.approx(losses(tmp_path / "cpu"), rel=5e-3)


def test_half_precision_trains(word: str, run: Run, tmp_path: Path) -> None:
    stats = run(tmp_path, adapter={"name": word}, device="cuda", epochs=4, learning_rate=3e-3, micro_batch=4)
    assert stats["loss_last"] < stats["loss_first"]


def test_rows_in_bins_and_checkpointing_change_nothing(word: str, run: Run, tmp_path: Path) -> None:
    how: dict[str, Any] = {"adapter": {"name": word}, "device": "cuda", "precision": "float32", "learning_rate": 1e-3}
    run(tmp_path / "plain", **how)
    run(tmp_path / "checkpointed", gradient_checkpointing=True, **how)
    assert losses(tmp_path / "checkpointed") == pytest.approx(losses(tmp_path / "plain"), rel=5e-3)
    if word not in ("loramoe", "mola"):  # both see which rows stand together
        run(tmp_path / "packed", packing=64, **how)
        assert losses(tmp_path / "packed") == pytest.approx(losses(tmp_path / "plain"), rel=5e-3)


@pytest.mark.parametrize("stop", [3])
def test_a_stopped_training_ends_in_the_same_bits(
    word: str, stop: int, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"adapter": {"name": word}, "device": "cuda", "checkpoint_every": 2, "learning_rate": 1e-3}
    whole, done = run(tmp_path / "whole", **how), 0
    kept: Any = ADAPTERS[word].after_step

    def after_step(self: Adapter, model: Any) -> None:
        nonlocal done
        done += 1
        if done > stop:
            raise KeyboardInterrupt
        kept(self, model)

    with monkeypatch.context() as patched:
        patched.setattr(ADAPTERS[word], "after_step", after_step)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", **how)
    assert run(tmp_path / "stopped", **how) == whole
    files = [path.relative_to(tmp_path / "whole") for path in sorted((tmp_path / "whole").rglob("*.safetensors"))]
    assert files
    assert {name: sha256(tmp_path / "stopped" / name) for name in files} == {
        name: sha256(tmp_path / "whole" / name) for name in files
    }
