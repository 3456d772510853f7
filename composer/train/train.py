"""Training on a composition: its rows in its order, one batch per optimiser step, and a trace of what every domain lost.

A composition has already settled what is trained on and when, so that nothing is shuffled here. What is left behind is the
trained weights, `trace.parquet` with a row per (step, domain), and `train.json` with the settings and the sums.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from composer.errors import FaultError, InputError, ModelError, SpecError
from composer.fingerprint import write_json
from composer.progress import bar, say
from composer.spec import Spec, member_of, outside_identity, seed_of
from composer.tables import TRACE, write
from composer.train.adapters import ADAPTERS, Adapter
from composer.train.adapters.full import Full
from composer.train.batches import Row, rows, steps
from composer.train.checkpoint import NAME, latest
from composer.train.isolated import isolated
from composer.train.model import load
from composer.train.order import Order, Planned
from composer.types import ModelRef

if TYPE_CHECKING:
    from composer.train.trainer import Step

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


class Train(Spec):
    """How to train on a composition.

    ``batch_size`` counts the samples of one optimiser step; every trained token of a step weighs the same. ``batches`` takes
    the rows as they come (``mixed``) or makes every batch of one domain (``domain``). The learning rate rises over
    ``warmup_ratio`` of the steps and then falls as ``lr_schedule`` says; the optimiser is AdamW.

    ``micro_batch`` rows go through the model at once (all of a step's when absent), ``threads`` are those of one torch
    operation, and ``report_to`` names loggers of transformers. After every ``checkpoint_every`` steps a checkpoint is left from
    which training goes on to the bit when it was stopped.
    """

    adapter: member_of(ADAPTERS, kind="adapter") = Full()  # type: ignore[valid-type]
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=2e-4, ge=0, allow_inf_nan=False)
    lr_schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    max_grad_norm: float = Field(default=1.0, gt=0)
    batches: Literal["mixed", "domain"] = "mixed"
    micro_batch: int | None = outside_identity(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = outside_identity("auto")
    threads: int | None = outside_identity(None, ge=1)
    checkpoint_every: int = outside_identity(100, ge=1)
    report_to: tuple[str, ...] = outside_identity(())


def train(
    composition: pl.DataFrame,
    samples: pl.DataFrame,
    *,
    model: ModelRef,
    start: Path | None,
    spec: Train,
    max_length: int,
    seed: int,
    folder: Path,
) -> dict[str, Any]:
    """Train on the rows of a composition, in their order, and write the result into a folder.

    Parameters
    ----------
    composition, samples
        COMPOSITION rows of the phases to train, in position order, and SAMPLE rows that hold their messages.
    model
        The base model.
    start
        Folder of a trained artifact of the same adapter to go on from, with a fresh optimiser.
    max_length
        Tokens after which a sample is cut, as ingest counted it.
    seed
        Seed of fresh adapter weights and of dropout.
    folder
        Where ``model/`` or ``adapter/``, ``trace.parquet`` and ``train.json`` are written.

    Returns
    -------
    dict
        ``steps``, ``samples``, ``n_tokens``, ``n_loss_tokens``, ``trainable_parameters``, the token means ``loss_first`` and
        ``loss_last`` of the first and the last step, and for each of ``domains`` its ``n_loss_tokens`` and, over all of
        training, its token mean ``loss_nats``.

    Raises
    ------
    ModelError
        Where the model or the start cannot be used.
    InputError
        Where samples are longer than the model can read.
    FaultError
        Where samples do not fit the composition, a loss or a weight is not finite, or the GPU's memory does not suffice.
    """
    adapter, device = spec.adapter, _device(spec)
    _check_reports(spec.report_to)
    folder.mkdir(parents=True, exist_ok=True)
    with isolated(seed_of(seed, "train"), threads=spec.threads):
        origin = _origin(adapter, model=model, start=start)
        network, tokenizer = load(origin, device=device, exact=not adapter.needs_base)
        items, domains = rows(composition, samples, tokenizer=tokenizer, max_length=max_length)
        _check_lengths(items, network)
        order = Planned(steps(items, size=spec.batch_size, batches=spec.batches), times=spec.epochs)
        network = adapter.attach(network, previous=start, seed=seed)
        n_parameters = sum(parameter.numel() for parameter in adapter.state(network).values())
        taken = _fit(network, order, domains, spec=spec, device=device, seed=seed, folder=folder)
        _check_weights(adapter, network)
        adapter.save(network, tokenizer, folder)
    write(_trace(taken, domains), folder / "trace.parquet", TRACE)
    stats = {**_stats(taken, domains), "trainable_parameters": n_parameters}
    write_json(folder / "train.json", {"spec": spec, "stats": stats})
    return stats


def _device(spec: Train) -> str:
    import torch

    if spec.device == "cuda" and not torch.cuda.is_available():
        raise SpecError("no GPU that torch can use here", where="train.device", got="cuda", expected="auto or cpu")
    return "cuda" if spec.device != "cpu" and torch.cuda.is_available() else "cpu"


def _check_reports(names: Sequence[str]) -> None:
    if not names:
        return
    from transformers.integrations import get_available_reporting_integrations

    known = sorted(get_available_reporting_integrations())
    if unknown := [name for name in names if name not in known]:
        expected = f"one of those installed: {', '.join(known) or 'none'}"
        raise SpecError("cannot report to it", where="train.report_to", expected=expected, got=", ".join(unknown))


def _origin(adapter: Adapter, *, model: ModelRef, start: Path | None) -> ModelRef:
    """Return the model that is loaded: the start in the base's place where it is a model of its own."""
    if adapter.needs_base:
        if model.adapter is not None:
            hint = "go on from the trained artifact instead, or merge it into the base"
            raise ModelError("an adapter on top of another", where="base_model.adapter", got=model.adapter, hint=hint)
        return model
    return model if start is None else ModelRef(path=str(start / adapter.where), chat_template=model.chat_template)


def _check_lengths(items: Sequence[Row], network: Any) -> None:
    most = getattr(network.config, "max_position_embeddings", None)
    longest = max(items, key=lambda row: len(row.encoding.ids))
    if most is not None and len(longest.encoding.ids) > most:
        expected, got = f"at most {most} tokens", f"{len(longest.encoding.ids)} in sample {longest.sample_id}"
        raise InputError(
            "a sample is longer than the model can read", expected=expected, got=got, hint="ingest with a lower max_length"
        )


def _fit(
    network: Any, order: Order, domains: list[str], *, spec: Train, device: str, seed: int, folder: Path
) -> list[Step]:  # fmt: skip
    from composer.train.trainer import ComposerTrainer

    aside = folder / ".trainer"
    args = _arguments(network, spec=spec, n_steps=order.n_steps, device=device, seed=seed, folder=aside)
    with bar("train", total=order.n_steps, unit="steps") as shown:
        trainer = ComposerTrainer(
            model=network,
            args=args,
            order=order,
            domains=domains,
            adapter=spec.adapter,
            micro_batch=spec.micro_batch,
            shown=shown,
        )
        left = latest(aside)
        if left is not None:
            say(f"training goes on after step {left.name.removeprefix(NAME)}, from the checkpoint in {aside}")
        trainer.train(resume_from_checkpoint=None if left is None else str(left))
    shutil.rmtree(aside, ignore_errors=True)
    return trainer.taken


def _arguments(network: Any, *, spec: Train, n_steps: int, device: str, seed: int, folder: Path) -> Any:
    from transformers import TrainingArguments

    args = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=1, num_train_epochs=1, train_sampling_strategy="sequential",
        learning_rate=spec.learning_rate, lr_scheduler_type=SCHEDULES[spec.lr_schedule],
        warmup_steps=math.ceil(spec.warmup_ratio * n_steps), weight_decay=spec.weight_decay, max_grad_norm=spec.max_grad_norm,
        optim="adamw_torch_fused", seed=seed_of(seed, "trainer"), use_cpu=device == "cpu", bf16=device == "cuda",
        save_strategy="steps", save_steps=spec.checkpoint_every, report_to=list(spec.report_to) or "none",
        logging_strategy="steps" if spec.report_to else "no",
        logging_steps=1, logging_nan_inf_filter=False, disable_tqdm=True, remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        use_cache=network.config.use_cache,  # else the Trainer writes False into the config that is saved
    )  # fmt: skip
    args._n_gpu = min(args.n_gpu, 1)  # several GPUs would become DataParallel, which splits a step's exact token mean
    return args


def _check_weights(adapter: Adapter, network: Any) -> None:
    bad = [name for name, parameter in adapter.state(network).items() if not parameter.isfinite().all()]
    if bad:
        raise FaultError("weights are not finite after training", where="train", got=bad[0], hint="lower learning_rate")


def _trace(taken: Sequence[Step], domains: Sequence[str]) -> pl.DataFrame:
    out: list[dict[str, Any]] = []
    position = 0
    for i, step in enumerate(taken):
        for k in np.flatnonzero(step.counts).tolist():
            out.append({
                "step": i, "position": position, "domain": domains[k], "weight": step.counts[k] / step.counts.sum(),
                "loss_nats": step.losses[k] / step.counts[k], "n_tokens": step.counts[k],
            })  # fmt: skip
        position += step.n_rows
    return pl.DataFrame(out, schema=TRACE)


def _stats(taken: Sequence[Step], domains: Sequence[str]) -> dict[str, Any]:
    losses = np.sum([step.losses for step in taken], axis=0)
    counts = np.sum([step.counts for step in taken], axis=0)
    return {
        "steps": len(taken),
        "samples": sum(step.n_rows for step in taken),
        "n_tokens": sum(step.n_tokens for step in taken),
        "n_loss_tokens": int(counts.sum()),
        "loss_first": taken[0].loss,
        "loss_last": taken[-1].loss,
        "domains": {
            domain: {"n_loss_tokens": int(counts[k]), "loss_nats": float(losses[k] / counts[k])}
            for k, domain in enumerate(domains)
        },
    }
