"""Weights that move work in the Trainers of others, and the same rows give them the same loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from composer.encode import load_tokenizer
from composer.errors import InputError
from composer.tables import TRACE, read
from composer.train.batches import Reader, Row
from composer.train.layout import IGNORED, domain_of_tokens, padded, token_losses
from composer.train.model import load
from composer.train.reweight.levels import Levels
from composer.train.reweight.potential import Potential
from composer.train.sampler import DomainSampler, Reweight
from composer.types import ModelRef

Composed = Callable[[pl.DataFrame], pl.DataFrame]
DOMAINS = ["law"] * 30 + ["code"] * 30


def test_what_is_drawn_follows_the_weights_and_each_row_comes_once() -> None:
    sampler = DomainSampler(DOMAINS, weights={"law": 3, "code": 1}, batch_size=8, n_steps=5)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == len(set(drawn)) == 40
    assert sum(i < 30 for i in drawn) == 30
    assert [i for i in drawn if i < 30] == sorted(i for i in drawn if i < 30)


def test_it_goes_on_from_its_state_and_by_other_weights() -> None:
    whole, one = (DomainSampler(DOMAINS, weights={"law": 1, "code": 1}, batch_size=4, n_steps=10) for _ in range(2))
    all_at_once, begun = list(whole), iter(one)
    first = [next(begun) for _ in range(12)]
    again = DomainSampler(DOMAINS, weights={"law": 1, "code": 1}, batch_size=4, n_steps=10)
    again.load_state_dict(one.state_dict())
    assert first + list(again) == all_at_once
    one.set_weights({"law": 0, "code": 1})
    assert all(next(begun) >= 30 for _ in range(12))


def test_a_domain_without_a_weight_is_named() -> None:
    with pytest.raises(InputError, match="no weight for a domain; expected law; got code"):
        DomainSampler(DOMAINS, weights={"law": 1}, batch_size=4)


@pytest.fixture
def items(samples: pl.DataFrame, composed: Composed, base: ModelRef) -> list[Row]:
    reader = Reader(composed(samples), samples, tokenizer=load_tokenizer(base.path), max_length=64)
    return reader.read(range(samples.height))


def sft(
    base: ModelRef, items: list[Row], folder: Path, *, sampler: DomainSampler | None, callbacks: Any = (), **more: Any
) -> Any:
    """Return TRL's trainer on these rows, as its users write it."""
    trl = pytest.importorskip("trl", reason="needs TRL (pip install trl)")
    from datasets import Dataset

    labels = [[t if k else IGNORED for t, k in zip(r.ids.tolist(), r.trained, strict=True)] for r in items]
    data = Dataset.from_dict({"input_ids": [r.ids.tolist() for r in items], "labels": labels})

    class Mixed(trl.SFTTrainer):  # type: ignore[misc, name-defined]
        seen: list[int] = []

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return sampler or torch.utils.data.SequentialSampler(train_dataset or self.train_dataset)

    network, tokenizer = load(base, device="cpu")
    args = trl.SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=8, max_steps=5, use_cpu=True, bf16=False, report_to="none",
        save_strategy="no", logging_steps=1, learning_rate=2e-4, disable_tqdm=True, lr_scheduler_type="cosine",
        max_length=None, gradient_checkpointing=False, **more,
    )  # fmt: skip
    return Mixed(model=network, args=args, train_dataset=data, processing_class=tokenizer, callbacks=list(callbacks))


@pytest.mark.filterwarnings("ignore")  # of TRL and what it imports
def test_the_same_rows_give_trl_the_same_first_loss(run: Any, items: list[Row], base: ModelRef, tmp_path: Path) -> None:
    trainer = sft(base, items, tmp_path / "trl", sampler=None)
    trainer.train()
    run(tmp_path / "ours")
    trace = read(tmp_path / "ours/trace.parquet", TRACE).filter(step=0)
    ours = float((trace["loss_nats"] * trace["n_tokens"]).sum() / trace["n_tokens"].sum())
    assert trainer.state.log_history[0]["loss"] == pytest.approx(ours, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_a_law_moves_the_weights_of_trl(items: list[Row], base: ModelRef, tmp_path: Path) -> None:
    names = ["law", "code"]
    held_out = padded([row for row in items if int(row.sample_id[0], 16) < 4])

    def losses(model: Any) -> dict[str, float]:
        with torch.no_grad():
            found, domain = token_losses(model.eval(), held_out), domain_of_tokens(held_out)
        return {name: float(found[torch.from_numpy(domain == k)].mean()) for k, name in enumerate(names)}

    sampler = DomainSampler([names[row.domain] for row in items], weights={"law": 1, "code": 1}, batch_size=8, n_steps=5)
    callback = Reweight(Potential(every=2, floor=0.05), sampler, losses, reference={"law": 1.0, "code": 9.0})
    trainer = sft(base, items, tmp_path, sampler=sampler, callbacks=[callback])
    callback.report = trainer.log
    trainer.train()
    assert [step for step, _ in callback.moves] == [0, 2, 4]
    logged = [each for each in trainer.state.log_history if "weight/law" in each]
    assert [(each["step"], each["weight/law"]) for each in logged] == [(step, own["law"]) for step, own in callback.moves]
    assert all(each["held_out_loss/code"] > 0 for each in logged)
    shares = [weights["law"] for _, weights in callback.moves]
    assert shares[0] == 0.5 < shares[1] < shares[2]


def test_levels_reach_the_sampler_at_their_steps() -> None:
    sampler = DomainSampler(DOMAINS, weights={"law": 1, "code": 1}, batch_size=4, n_steps=4)
    law = Levels(levels=((0, {"law": 1, "code": 1}), (2, {"code": 1})))
    callback = Reweight(law, sampler, lambda _: {"law": 1.0, "code": 1.0})

    class State:
        global_step = 0

    drawn: list[int] = []
    callback.on_train_begin(None, State, None, model=None)
    for i in sampler:
        drawn.append(i)
        if len(drawn) % 4 == 0:
            State.global_step = len(drawn) // 4
            callback.on_step_end(None, State, None, model=None)
    assert sum(i < 30 for i in drawn[:8]) == 4
    assert all(i >= 30 for i in drawn[8:])
