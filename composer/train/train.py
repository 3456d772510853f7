"""Training on a composition: its rows in its order, one batch per optimiser step, and a trace of what every domain lost.

A composition has already settled what is trained on and when, so that nothing is shuffled here. What is left behind is the
trained weights, `trace.parquet` with a row per (step, domain), and `train.json` with the settings and the sums.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import Field, model_validator

from composer.errors import FaultError, InputError, ModelError, SpecError
from composer.fingerprint import write_json
from composer.spec import Spec, member_of, outside_identity, seed_of
from composer.tables import TRACE, write
from composer.train.adapters import ADAPTERS, Adapter
from composer.train.adapters.full import Full
from composer.train.batches import Reader, held_out_rows, steps
from composer.train.fit import ASIDE, fit
from composer.train.held_out import HeldOutRows
from composer.train.isolated import isolated
from composer.train.layout import check_isolation
from composer.train.model import describe, fingerprint, load
from composer.train.order import Order, Planned
from composer.train.reference import ReferenceLosses
from composer.train.reweight import REWEIGHTING, Reweighting
from composer.train.shards import first, gather, rank, summed
from composer.train.steering import Moving, Steering, steer
from composer.train.trace import sums_of, trace_of
from composer.types import LossOn, ModelRef

if TYPE_CHECKING:
    from composer.train.fit import Fitted

    AnyLaw = Reweighting
else:
    AnyLaw = member_of(REWEIGHTING, kind="law of training")


class Train(Spec):
    """How to train on a composition.

    ``batch_size`` counts the samples of one optimiser step; every trained token of a step weighs the same. ``batches`` takes
    the rows as they come (``mixed``) or makes every batch of one domain (``domain``). The learning rate rises over
    ``warmup_ratio`` of the steps and then falls as ``lr_schedule`` says; the optimiser is AdamW.

    With ``packing`` a step's rows stand behind one another in bins of at most that many tokens, each of one domain, and see
    nothing of one another; without, they are padded. ``micro_batch`` rows, or bins, go through the model at once (all of a
    step's when absent), ``threads`` are those of one torch operation, and ``report_to`` names loggers of transformers. After
    every ``checkpoint_every`` steps a checkpoint is left from which training goes on to the bit when it was stopped.

    Weights that move and their moments are float32; passes are made in ``precision``, which is bfloat16 on a GPU and float32 on
    a CPU unless it is stated. ``gradient_checkpointing`` makes every layer's pass twice and keeps no activations in between,
    ``compile`` lets torch compile the model's pass, and ``attention`` names the implementation of transformers, the model's own
    choice when absent. Bins that go through one at a time (``micro_batch: 1``) are free of padding.

    With a ``law`` the weights of domains move while training goes on: it looks at the losses of held-out rows (``held_out``),
    and each step's rows are drawn by the weights then in force, from the composition's rows and what it left in reserve. As
    much is trained on as the composition has, in its unit and to within a row: a step takes its even part of that, some
    ``batch_size`` rows (with ``batches: domain`` rows are counted). ``reference`` says what the losses might come down to, for
    laws that ask.

    ``processes`` train together, one per GPU or on the CPU, each on its part of every step's rows; ``shard`` lets each hold a
    part of parameters, gradients and moments only, which full fine-tuning alone can.
    """

    adapter: member_of(ADAPTERS, kind="adapter") = Full()  # type: ignore[valid-type]
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=2e-4, ge=0, allow_inf_nan=False)
    lr_schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    max_grad_norm: float = Field(default=1.0, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    batches: Literal["mixed", "domain"] = "mixed"
    law: AnyLaw | None = None
    reference: ReferenceLosses | None = None
    held_out: HeldOutRows = HeldOutRows()
    packing: int | None = outside_identity(None, ge=1)
    micro_batch: int | None = outside_identity(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = outside_identity("auto")
    threads: int | None = outside_identity(None, ge=1)
    compile: bool = outside_identity(False)
    gradient_checkpointing: bool = outside_identity(False)
    attention: str | None = outside_identity(None)
    checkpoint_every: int = outside_identity(100, ge=1)
    report_to: tuple[str, ...] = outside_identity(())
    processes: int = outside_identity(1, ge=1)
    shard: bool = outside_identity(False)

    @model_validator(mode="after")
    def _whole(self) -> Train:
        if self.shard and not isinstance(self.adapter, Full):
            hint = "leave shard out: every process then holds the base"
            raise SpecError("only full fine-tuning", where="shard", expected="adapter full", got=self.adapter.name, hint=hint)
        return self

    @model_validator(mode="after")
    def _check(self) -> Train:
        if self.law is not None and self.epochs > 1:
            hint = "let rows come again by budget.max_repeats, which the reserve keeps to"
            raise SpecError(
                "a law moves weights within one pass", where="train.epochs", expected="1", got=self.epochs, hint=hint
            )
        if self.law is not None and "reference" in self.law.needs and self.reference is None:
            hint = "give train.reference, such as {epochs: 3, rows: 200} or {given: {law: 1.8, ...}}"
            raise SpecError(f"{self.law.name} needs reference losses", where="train.reference", hint=hint)
        return self


def train(
    composition: pl.DataFrame,
    samples: pl.DataFrame,
    *,
    model: ModelRef,
    start: Path | None,
    spec: Train,
    max_length: int,
    loss_on: LossOn = "all",
    seed: int,
    folder: Path,
    moving: Moving | None = None,
    given: Mapping[str, Path] | None = None,
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
    loss_on
        Which answers of a sample are trained on, as ingest counted them.
    seed
        Seed of fresh adapter weights and of dropout.
    folder
        Where ``model/`` or ``adapter/``, ``trace.parquet`` and ``train.json`` are written, and ``weights.parquet`` and
        ``levels.yaml`` where weights move: the looks, and the law that would set the same weights again.
    moving
        What a law of training needs; the rows are then drawn, and the composition's order is that of each domain alone.
    given
        Folders of what the adapter needs, by name.

    Returns
    -------
    dict
        ``steps``, ``samples``, ``n_tokens``, ``n_loss_tokens``, ``trainable_parameters``, ``optimizer_bytes`` (the optimiser's
        state in one process), the token means ``loss_first`` and ``loss_last`` of the first and the last step, and for each of
        ``domains`` its ``n_loss_tokens`` and, over all of training, its token mean ``loss_nats``; where weights move ``looks``,
        ``weights`` (the last), ``exhausted`` (the steps at which domains ran dry) and ``looking_seconds``.

    Raises
    ------
    ModelError
        Where the model or the start cannot be used, or not with rows in bins.
    InputError
        Where samples are longer than the model can read, or rows have no trained token.
    SpecError
        Where they are longer than a bin, or the device or a logger is not there.
    FaultError
        Where samples do not fit the composition, a loss or a weight is not finite, or the GPU's memory does not suffice.
    """
    adapter, device = spec.adapter, device_of(spec)
    _check_reports(spec.report_to)
    folder.mkdir(parents=True, exist_ok=True)
    if spec.processes > 1 and rank() is None:
        from composer.train import job, launch

        path = job.write(
            composition, samples, moving, model=model, start=start, spec=spec, max_length=max_length, loss_on=loss_on,
            seed=seed, folder=folder, given=given,
        )  # fmt: skip
        return launch.carry_out(path)
    with isolated(seed_of(seed, "train"), threads=spec.threads):
        origin = _origin(adapter, model=model, start=start)
        network, tokenizer = load(
            origin, device="cpu" if spec.shard else device, exact=not adapter.needs_base, attention=spec.attention
        )
        whole = composition if moving is None else pl.concat([composition, moving.reserve])
        reader = Reader(whole, samples, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on)
        check_lengths(zip(reader.table["sample_id"], reader.table["n_tokens"], strict=True), network, packing=spec.packing)
        items, domains = reader.read(range(composition.height)), reader.domains
        if spec.packing is not None:
            check_isolation(network, micro_batch=spec.micro_batch)
        order: Order = Planned(steps(items, size=spec.batch_size, batches=spec.batches) * spec.epochs)
        steering: Steering | None = None
        if moving is not None:
            measured = held_out_rows(moving.held_out, domains, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on)
            check_lengths(((row.sample_id, row.n_tokens) for row in measured), network, packing=spec.packing)
            steering = steer(items, measured, reader, spec=spec, moving=moving)
            order = steering.order
        base = fingerprint(network) if adapter.needs_base and first() else ""
        network = adapter.attach(network, previous=start, seed=seed, domains=domains, given=given or {})
        n_parameters = sum(parameter.numel() for parameter in adapter.state(network).values())
        fitted = fit(network, order, domains, spec=spec, device=device, seed=seed, folder=folder, watch=steering)
        gather(network)
        seen = {name: summed(value) for name, value in adapter.account(network).items()}
        for name, value in adapter.account(network).items():
            value.copy_(seen[name])
        _check_weights(adapter, network)
        if first():
            adapter.save(network, tokenizer, folder)
            adapter.keep(network, domains, folder)
            if adapter.needs_base:
                describe(folder / adapter.where, adapter, base)
    return _kept(fitted, domains, n_parameters, steering, spec=spec, folder=folder)


def _kept(
    fitted: Fitted, domains: Sequence[str], n_parameters: int, steering: Steering | None, *, spec: Train, folder: Path
) -> dict[str, Any]:
    """Write the account of a training beside its weights, and return its sums."""
    taken, sizes = fitted.steps, {"trainable_parameters": n_parameters, "optimizer_bytes": fitted.optimizer_bytes}
    stats = {**sums_of(taken, domains), **sizes}
    if not first():
        return stats
    write(trace_of(taken, domains), folder / "trace.parquet", TRACE)
    write_json(folder / "train.json", {"spec": spec, "stats": stats})
    moved = {} if steering is None else steering.write(folder)
    shutil.rmtree(folder / ASIDE, ignore_errors=True)
    return stats | moved


def device_of(spec: Train) -> str:
    """Return the device that a training uses: cpu or cuda."""
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


def check_lengths(lengths: Iterable[tuple[str, int]], network: Any, *, packing: int | None) -> None:
    """Refuse samples, given with their numbers of tokens, that are longer than the model can read, or than a bin.

    Raises
    ------
    InputError
        For one longer than the model can read.
    SpecError
        For one longer than a bin.
    """
    most = getattr(network.config, "max_position_embeddings", None)
    longest, n = max(lengths, key=lambda each: each[1], default=("", 0))
    got = f"{n} in sample {longest}"
    if most is not None and n > most:
        what, expected = "a sample is longer than the model can read", f"at most {most} tokens"
        raise InputError(what, expected=expected, got=got, hint="ingest with a lower max_length")
    if packing is not None and n > packing:
        what, expected = "a sample is longer than a bin", f"at most {packing} tokens"
        raise SpecError(what, where="train.packing", expected=expected, got=got, hint="raise train.packing")


def _check_weights(adapter: Adapter, network: Any) -> None:
    bad = [name for name, parameter in adapter.state(network).items() if not parameter.isfinite().all()]
    if bad:
        raise FaultError("weights are not finite after training", where="train", got=bad[0], hint="lower learning_rate")
