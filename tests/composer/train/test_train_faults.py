"""Training that cannot go on says at which step, in which domains and with which samples, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from composer.encode import Encoding, encode, load_tokenizer
from composer.errors import FaultError, InputError, ModelError, SpecError
from composer.tables import SAMPLE
from composer.train import Train, train
from composer.train.adapters import Adapter
from composer.train.adapters.full import Full
from composer.train.model import load
from composer.types import ModelRef

Composed = Callable[[pl.DataFrame], pl.DataFrame]
Run = Callable[..., dict[str, Any]]


def test_a_loss_that_is_not_a_number(run: Run, base: ModelRef, samples: pl.DataFrame, tmp_path: Path) -> None:
    network, tokenizer = load(base, device="cpu")
    with torch.no_grad():
        network.lm_head.weight[: len(tokenizer)] = torch.nan
    network.save_pretrained(tmp_path / "broken")
    tokenizer.save_pretrained(tmp_path / "broken")
    with pytest.raises(FaultError, match=f"step 0: the loss is nan in domains code, law, samples {samples['sample_id'][0]}, "):
        run(tmp_path / "out", model=ModelRef(path=str(tmp_path / "broken")))
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")] == []


def test_a_last_step_that_ruins_the_weights(
    run: Run, samples: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ruin(_: Adapter, model: Any) -> None:
        with torch.no_grad():
            next(model.parameters()).fill_(torch.inf)

    monkeypatch.setattr(Full, "after_step", ruin)
    with pytest.raises(FaultError, match=r"weights are not finite after training; got model.embed_tokens.weight"):
        run(tmp_path, rows=samples.head(4))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory: 9 bytes")]
)
def test_memory_that_does_not_suffice(run: Run, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fill(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Full, "extra_loss", fill)
    told = r"step 0: the memory does not suffice, the longest sample is [0-9a-f]{16} of (law|code); got \d+ tokens; set train"
    with pytest.raises(FaultError, match=told):
        run(tmp_path)


def test_an_error_that_is_not_of_memory_is_not_said_to_be(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(Full, "extra_loss", fail)
    with pytest.raises(RuntimeError, match="something else"):
        run(tmp_path)


def test_a_gradient_that_is_not_finite(
    run: Run, samples: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def explode(_: Adapter, model: Any) -> None:
        next(model.parameters()).grad.fill_(torch.inf)

    monkeypatch.setattr(Full, "after_backward", explode)
    with pytest.raises(
        FaultError, match=f"step 0: the gradient's norm is (inf|nan), samples {samples['sample_id'][0]}, .*lower"
    ):
        run(tmp_path)


def test_samples_that_the_model_cannot_read(samples: pl.DataFrame, composed: Composed, base: ModelRef, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "x" * 600}, {"role": "assistant", "content": "y"}]
    [encoding] = encode(load_tokenizer(base.path), [talk], max_length=1000)
    assert isinstance(encoding, Encoding)
    row = samples.head(1).with_columns(
        pl.Series("messages", [talk], SAMPLE["messages"]), pl.lit(len(encoding.ids), pl.UInt32).alias("n_tokens"),
        pl.lit(encoding.n_loss_tokens, pl.UInt32).alias("n_loss_tokens"),
    )  # fmt: skip
    with pytest.raises(InputError, match=r"longer than the model can read; expected at most 512 tokens; got [0-9]+ in sample"):
        train(composed(row), row, model=base, start=None, spec=Train(), max_length=1000, seed=1, folder=tmp_path)


def test_rows_without_a_trained_token_stop_it_before_any_step(run: Run, samples: pl.DataFrame, tmp_path: Path) -> None:
    none = samples.with_columns(pl.lit(0, pl.UInt32).alias("n_loss_tokens"))
    with pytest.raises(InputError, match=f"got none in {samples['sample_id'][0]}, .* and 55 more; leave these rows out, or"):
        run(tmp_path, rows=none)
    assert list(tmp_path.iterdir()) == []


def test_a_start_of_another_kind(run: Run, samples: pl.DataFrame, tmp_path: Path) -> None:
    run(tmp_path / "full", rows=samples.head(4))
    with pytest.raises(ModelError, match="no adapter in the folder"):
        run(tmp_path / "out", adapter="lora", start=tmp_path / "full")
    with pytest.raises(ModelError, match="no such folder"):
        run(tmp_path / "out", start=tmp_path / "nowhere")


def test_lora_on_top_of_an_adapter_is_refused(run: Run, base: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="an adapter on top of another"):
        run(tmp_path, adapter="lora", model=ModelRef(path=base.path, adapter="some/adapter"))


def test_a_logger_that_is_not_installed(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"train.report_to: cannot report to it; .*got no-such-logger"):
        run(tmp_path, report_to=["no-such-logger"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"train.device: no GPU .*expected auto or cpu"):
        run(tmp_path, device="cuda")


@pytest.mark.parametrize(("fields", "message"), [
    ({"adapter": "lorra"}, "adapter.name: unknown adapter 'lorra'; did you mean 'lora'"),
    ({"adapter": {"name": "lora", "rnk": 4}}, "rnk: unknown field of Lora; did you mean 'rank'"),
    ({"epochs": 0}, "epochs: "),
    ({"learning_rate": float("nan")}, "learning_rate: "),
    ({"batches": "random"}, "batches: "),
    ({"warmup_ratio": 1.0}, "warmup_ratio: "),
])  # fmt: skip
def test_bad_settings(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Train(**fields)
