"""Training keeps its promises: exact token means, the order of the composition, the same bits twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from composer.encode import Encoding, encode, load_tokenizer
from composer.fingerprint import sha256
from composer.progress import listener
from composer.spec import digest
from composer.tables import SAMPLE, TRACE, read
from composer.train import ADAPTERS, Train, train
from composer.train.adapters import Adapter
from composer.train.adapters.full import Full
from composer.train.model import load
from composer.types import ModelRef

Composed = Callable[[pl.DataFrame], pl.DataFrame]
Run = Callable[..., dict[str, Any]]


def files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(next(folder.rglob("*.safetensors")))


def loss_by_domain(samples: pl.DataFrame, model: ModelRef) -> dict[str, float]:
    """The token mean of every domain, one conversation at a time and with transformers' own loss."""
    network, tokenizer = load(model, device="cpu")
    encodings = encode(tokenizer, samples["messages"].to_list(), max_length=64)
    sums: dict[str, list[float]] = {domain: [0, 0] for domain in samples["domain"].unique()}
    for domain, encoding in zip(samples["domain"], encodings, strict=True):
        assert isinstance(encoding, Encoding)
        labels = [token if on else -100 for token, on in zip(encoding.ids, encoding.trained, strict=True)]
        with torch.no_grad():
            loss = network(input_ids=torch.tensor([encoding.ids]), labels=torch.tensor([labels])).loss.item()
        sums[domain][0] += loss * encoding.n_loss_tokens
        sums[domain][1] += encoding.n_loss_tokens
    return {domain: loss / n for domain, (loss, n) in sums.items()}


@pytest.mark.parametrize("word", sorted(ADAPTERS))
def test_the_trace_adds_up_to_the_stats(word: str, run: Run, samples: pl.DataFrame, tmp_path: Path) -> None:
    stats = run(tmp_path, adapter=word, learning_rate=3e-3)
    trace = read(tmp_path / "trace.parquet", TRACE)
    assert stats["steps"] == 8 == trace["step"].n_unique()
    assert stats["samples"] == 60
    assert (stats["n_tokens"], stats["n_loss_tokens"]) == (samples["n_tokens"].sum(), samples["n_loss_tokens"].sum())
    by_step = trace.group_by("step", maintain_order=True).agg(pl.col("weight").sum(), pl.col("position").unique())
    np.testing.assert_allclose(by_step["weight"], 1)
    assert by_step["position"].explode().to_list() == list(range(0, 60, 8))
    for domain, one in stats["domains"].items():
        part = trace.filter(domain=domain)
        assert one["n_loss_tokens"] == part["n_tokens"].sum()
        np.testing.assert_allclose(one["loss_nats"], (part["loss_nats"] * part["n_tokens"]).sum() / part["n_tokens"].sum())
    means = trace.group_by("step", maintain_order=True).agg((pl.col("weight") * pl.col("loss_nats")).sum())["weight"]
    np.testing.assert_allclose([stats["loss_first"], stats["loss_last"]], [means[0], means[-1]])
    assert stats["loss_last"] < stats["loss_first"]
    assert json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))["stats"] == stats
    more = ["routing.parquet"] if word == "loramoe" else []
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([ADAPTERS[word].where, "trace.parquet", "train.json", *more])


@pytest.mark.parametrize("micro_batch", [None, 7])
def test_losses_are_token_means_of_the_base(
    micro_batch: int | None, run: Run, samples: pl.DataFrame, base: ModelRef, tmp_path: Path
) -> None:
    run(tmp_path, learning_rate=0.0, batch_size=60, micro_batch=micro_batch)
    trace = read(tmp_path / "trace.parquet", TRACE)
    expected = loss_by_domain(samples, base)
    assert dict(zip(trace["domain"], trace["loss_nats"], strict=True)) == pytest.approx(expected, rel=1e-5)
    before, after = weights(Path(base.path)), weights(tmp_path / "model")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_micro_batches_do_not_change_the_step(run: Run, tmp_path: Path) -> None:
    whole, parts = (run(tmp_path / str(n), micro_batch=n, learning_rate=1e-3) for n in (None, 3))
    assert parts["domains"]["law"]["loss_nats"] == pytest.approx(whole["domains"]["law"]["loss_nats"], rel=1e-4)
    one, two = weights(tmp_path / "None"), weights(tmp_path / "3")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 2e-4


def test_one_step_is_adamw_on_the_token_mean(run: Run, samples: pl.DataFrame, base: ModelRef, tmp_path: Path) -> None:
    """The first step of AdamW moves every weight by the learning rate against the sign of its gradient."""
    rows = samples.head(6)
    run(tmp_path, rows=rows, learning_rate=1e-4, lr_schedule="constant", warmup_ratio=0)
    network, tokenizer = load(base, device="cpu")
    total = 0
    for encoding in encode(tokenizer, rows["messages"].to_list(), max_length=64):
        assert isinstance(encoding, Encoding)
        logits = network(input_ids=torch.tensor([encoding.ids])).logits[0].log_softmax(-1)
        total = total - sum(logits[i - 1, encoding.ids[i]] for i in range(1, len(encoding.ids)) if encoding.trained[i])
    (total / rows["n_loss_tokens"].sum()).backward()
    after = weights(tmp_path / "model")
    for name, parameter in network.named_parameters():
        clear = parameter.grad.abs() > 1e-5
        moved = (after[name] - parameter.detach())[clear]
        torch.testing.assert_close(moved, -1e-4 * parameter.grad[clear].sign(), rtol=0, atol=2e-6)
        assert clear.any()


@pytest.mark.parametrize("word", sorted(ADAPTERS))
def test_two_runs_are_the_same_to_the_bit(word: str, run: Run, tmp_path: Path) -> None:
    stats = [run(tmp_path / str(i), adapter=word, learning_rate=1e-3) for i in range(2)]
    assert stats[0] == stats[1]
    assert files(tmp_path / "0") == files(tmp_path / "1")


def test_dropout_is_seeded(run: Run, gpt2: ModelRef, tmp_path: Path) -> None:
    for i in range(2):
        torch.rand(i)
        run(tmp_path / str(i), model=gpt2, learning_rate=1e-3)
    assert files(tmp_path / "0") == files(tmp_path / "1")


@pytest.mark.parametrize("word", sorted(ADAPTERS))
def test_training_goes_on_from_a_start(word: str, run: Run, tmp_path: Path) -> None:
    first = run(tmp_path / "one", adapter=word, learning_rate=3e-3)
    still = run(tmp_path / "two", adapter=word, learning_rate=0.0, start=tmp_path / "one", batch_size=60)
    assert still["loss_first"] < first["loss_first"] - 0.1
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    rounding = 1e-6 if word == "osf" else 0  # what is left is decomposed anew
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=rounding)
    assert still["trainable_parameters"] == first["trainable_parameters"]


def test_epochs_repeat_the_order(run: Run, tmp_path: Path) -> None:
    stats = run(tmp_path, learning_rate=0.0, epochs=2)
    trace = read(tmp_path / "trace.parquet", TRACE)
    one, two = trace.filter(pl.col("step") < 8), trace.filter(pl.col("step") >= 8)
    assert one.drop("step", "position").equals(two.drop("step", "position"))
    assert two["position"].min() == 60
    assert (stats["steps"], stats["samples"]) == (16, 120)


def test_batches_of_one_domain(run: Run, tmp_path: Path) -> None:
    run(tmp_path, batches="domain", learning_rate=1e-3, micro_batch=3)
    trace = read(tmp_path / "trace.parquet", TRACE)
    assert trace["step"].is_unique().all()
    assert trace["weight"].unique().to_list() == [1.0]
    assert trace["domain"].to_list() == ["law", "code"] * 4


def test_full_keeps_the_config_and_the_tokenizer(run: Run, base: ModelRef, tmp_path: Path) -> None:
    run(tmp_path, model=ModelRef(path=base.path, chat_template="auto"))
    configs = [json.loads((folder / "config.json").read_text()) for folder in (Path(base.path), tmp_path / "model")]
    assert configs[0] == configs[1]
    assert load_tokenizer(tmp_path / "model").chat_template == load_tokenizer(base.path).chat_template


def test_the_process_is_as_it_was(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1], torch.get_num_threads()
    run(tmp_path, threads=3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # type: ignore[operator]
    assert torch.get_num_threads() == states[2]
    assert capsys.readouterr() == ("", "")


def test_progress_is_told_by_steps(run: Run, tmp_path: Path) -> None:
    told: dict[str, list[float | None]] = {}

    class Listener:
        @contextmanager
        def bar(self, label: str, *, total: float | None, unit: str) -> Iterator[Any]:  # noqa: ARG002
            told[label] = [total]
            yield type("Bar", (), {"advance": lambda _, n=1: told[label].append(n)})()

        def say(self, line: str) -> None: ...

    token = listener.set(Listener())
    try:
        run(tmp_path)
    finally:
        listener.reset(token)
    assert told["train"] == [8] + [1] * 8


def test_an_adapter_is_asked_at_its_moments(
    run: Run, samples: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str] = []

    def extra_loss(_: Adapter, model: Any, batch: Any) -> torch.Tensor:
        seen.append(f"loss {len(batch['input_ids'])}")
        return 0 * next(model.parameters()).sum() + 1.0

    monkeypatch.setattr(Full, "extra_loss", extra_loss)
    monkeypatch.setattr(Full, "after_backward", lambda _, model: (seen.append("backward"), model.zero_grad()))
    monkeypatch.setattr(Full, "after_step", lambda *_: seen.append("step"))
    before = run(tmp_path / "a", rows=samples.head(10), micro_batch=3)
    assert seen == ["loss 3", "loss 3", "loss 2", "backward", "step", "loss 2", "backward", "step"]
    assert before["loss_first"] == run(tmp_path / "b", rows=samples.head(10), learning_rate=0.0, micro_batch=3)["loss_first"]


def test_how_fast_and_where_bear_no_identity() -> None:
    given: dict[str, Any] = {"micro_batch": 2, "device": "cpu", "threads": 1, "report_to": ("wandb",), "compile": True}
    assert Train(**given, gradient_checkpointing=True, attention="sdpa").identity() == Train().identity()
    assert Train().identity()["adapter"] == {"name": "full"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, in its own compiler
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"packing": 64},
        {"adapter": "lora"},
        {"adapter": {"name": "loramoe", "dropout": 0, "knowledge": ["law"]}},
        {"adapter": "lota"},
    ],
    ids=["padded", "packed", "lora", "loramoe", "lota"],
)
def test_a_compiled_pass_trains_the_same(fields: Any, run: Run, tmp_path: Path) -> None:
    plain, compiled = run(tmp_path / "plain", **fields), run(tmp_path / "compiled", compile=True, **fields)
    assert compiled["loss_last"] == pytest.approx(plain["loss_last"], abs=1e-5)
    left = [sorted(path.name for path in (tmp_path / name).rglob("*")) for name in ("plain", "compiled")]
    assert left[0] == left[1]


def test_passes_in_bfloat16_keep_weights_in_float32(run: Run, tmp_path: Path) -> None:
    exact, rough = run(tmp_path / "exact", epochs=3), run(tmp_path / "rough", epochs=3, precision="bfloat16")
    assert exact["loss_last"] != rough["loss_last"] == pytest.approx(exact["loss_last"], abs=0.02)
    from safetensors.torch import load_file

    [path] = (tmp_path / "rough").rglob("model.safetensors")
    assert {value.dtype for value in load_file(path).values()} == {torch.float32}


def test_real_rows(root: Path, base: ModelRef, composed: Composed, tmp_path: Path) -> None:
    folder = root / "../shared/data/domains"
    if not folder.is_dir():
        pytest.skip("shared/data is not here")
    tokenizer = load_tokenizer(base.path)
    rows: list[dict[str, Any]] = []
    for domain in ("law", "code"):
        for one in pl.read_parquet(folder / f"{domain}.parquet").head(16).iter_rows(named=True):
            user = "\n\n".join(filter(None, [one["instruction"], one["input"]]))
            talk = [{"role": "user", "content": user}, {"role": "assistant", "content": one["output"]}]
            [encoding] = encode(tokenizer, [talk], max_length=400)
            if isinstance(encoding, Encoding):
                rows.append({
                    "sample_id": digest(talk), "source": domain, "domain": domain, "role": "target", "instruction_id": "",
                    "messages": talk, "n_tokens": len(encoding.ids), "n_loss_tokens": encoding.n_loss_tokens, "license": "",
                })  # fmt: skip
    samples = pl.DataFrame(rows, schema=SAMPLE)
    spec = Train(epochs=2, batch_size=8, learning_rate=3e-3, threads=1, device="cpu")
    stats = train(composed(samples), samples, model=base, start=None, spec=spec, max_length=400, seed=1, folder=tmp_path)
    assert stats["n_loss_tokens"] == 2 * samples["n_loss_tokens"].sum()
    assert stats["loss_last"] < stats["loss_first"]
