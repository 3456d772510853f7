"""Reference losses: what the loss of every domain might come down to, for laws that compare with it.

How they are made decides what such a law does: losses of rows that were trained on go to zero, and then every domain looks as
if all were still to be learned. So they are read off held-out rows, here as in the training that they guide.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from composer.errors import InputError, SpecError
from composer.fingerprint import write_json
from composer.progress import say
from composer.spec import Spec, rng, seed_of
from composer.tables import COMPOSITION
from composer.types import LossOn, ModelRef

if TYPE_CHECKING:
    from composer.train.held_out import HeldOut
    from composer.train.train import Train
    from composer.train.trainer import ComposerTrainer


class ReferenceLosses(Spec):
    """Where reference losses come from: ``given`` by domain, in nats per token, or short runs on each domain alone.

    A short run trains the base model on ``rows`` training rows of the domain, ``epochs`` times over, with the
    settings of the training itself, and looks at the held-out rows before it and after every epoch; the reference is the
    least of these losses.

    References
    ----------
    VersaTune, arXiv:2411.11266, phase 2, where a small proxy is trained on each domain; held out as its code is not.
    """

    given: dict[str, float] | None = None
    rows: int = Field(default=200, ge=1)
    epochs: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _check(self) -> ReferenceLosses:
        for domain, loss in (self.given or {}).items():
            if not 0 <= loss < np.inf:
                raise SpecError("no loss", where=f"given.{domain}", expected="nats per token, 0 or more", got=loss)
        return self


class Epochs:
    """A watch that looks at held-out rows before training and after every so many steps."""

    def __init__(self, held_out: HeldOut, *, every: int) -> None:
        self.held_out, self.every = held_out, every
        self.losses: list[float] = []

    def before(self, trainer: ComposerTrainer) -> None:
        """Look where an epoch ends."""
        if trainer.state.global_step % self.every == 0:
            self.losses.append(float(self.held_out.look(trainer).mean[0]))

    def state(self) -> dict[str, Any]:
        """Return the losses so far."""
        return {"losses": self.losses}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with the losses so far."""
        self.losses = list(state["losses"])


def reference_losses(
    samples: pl.DataFrame, held_out: pl.DataFrame, domains: Sequence[str], *, model: ModelRef, spec: Train, max_length: int,
    seed: int, folder: Path, loss_on: LossOn = "all",
) -> dict[str, Any]:  # fmt: skip
    """Train on each domain alone, briefly; write and return the losses, the looks and how they were made.

    Parameters
    ----------
    samples
        SAMPLE rows to train on; which of a domain and in which order follows from the seed.
    held_out
        SAMPLE rows to look at.
    domains
        The domains of which the losses are wanted.
    model, spec, max_length, seed, folder, loss_on
        As for :func:`composer.train.train.train`; ``spec.reference`` says how long a run is. What was found of a domain is
        kept in the folder, so that one that was stopped goes on.

    Raises
    ------
    InputError
        For a domain without rows to train on, or without held-out rows.
    """
    out: dict[str, Any] = {}
    for domain in domains:
        rows, said, aside = (
            _some(samples, domain, n=_how(spec).rows, seed=seed),
            folder / f".{domain}.json",
            folder / f".{domain}",
        )
        if not said.exists():
            aside.mkdir(parents=True, exist_ok=True)
            losses = _short_run(
                rows, samples, held_out, domain, model=model, spec=spec, max_length=max_length, loss_on=loss_on, seed=seed,
                folder=aside,
            )  # fmt: skip
            write_json(said, {"loss_nats": min(losses), "looks": losses, "rows": rows.height})
            shutil.rmtree(aside)
        out[domain] = json.loads(said.read_text(encoding="utf-8"))
        say(f"{domain}: reference loss {out[domain]['loss_nats']:.4f} nats per token")
    write_json(folder / "reference.json", out)
    return {"domains": {domain: told["loss_nats"] for domain, told in out.items()}}


def _how(spec: Train) -> ReferenceLosses:
    return spec.reference or ReferenceLosses()


def _some(samples: pl.DataFrame, domain: str, *, n: int, seed: int) -> pl.DataFrame:
    """Return at most n rows of a domain as COMPOSITION, in an order by chance."""
    own = samples.filter(pl.col("domain") == domain, pl.col("n_loss_tokens") > 0).sort("sample_id")
    if own.is_empty():
        raise InputError("no rows to train on", where="train.reference", got=domain)
    rows = own[rng(seed, "reference", domain).permutation(own.height)[:n]].with_row_index("position")
    zero, no = pl.lit(0).alias, pl.lit(False).alias
    filled = rows.with_columns(zero("rank"), zero("row"), zero("phase"), zero("repeat"), no("is_replay"))
    return filled.select(*COMPOSITION).cast(dict(COMPOSITION))  # type: ignore[arg-type]


def _short_run(
    rows: pl.DataFrame, samples: pl.DataFrame, held_out: pl.DataFrame, domain: str, *, model: ModelRef, spec: Train,
    max_length: int, loss_on: LossOn, seed: int, folder: Path,
) -> Sequence[float]:  # fmt: skip
    from composer.train.batches import Reader, held_out_rows, steps
    from composer.train.fit import fit
    from composer.train.held_out import HeldOut
    from composer.train.isolated import isolated
    from composer.train.model import load
    from composer.train.order import Planned
    from composer.train.train import device_of

    device, given = device_of(spec), dict[str, Path]()
    if "mask" in spec.adapter.needs:
        from composer.train.calibrate import TOLD, calibrate

        given["mask"] = folder / "mask"
        if not (given["mask"] / TOLD).is_file():
            calibrate(
                rows, samples, model=model, start=None, spec=spec, max_length=max_length, loss_on=loss_on, seed=seed,
                folder=given["mask"],
            )  # fmt: skip
    with isolated(seed_of(seed, "reference", domain), threads=spec.threads):
        network, tokenizer = load(model, device=device, exact=not spec.adapter.needs_base, attention=spec.attention)
        reader = Reader(rows, samples, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on)
        items, names = reader.read(range(rows.height)), reader.domains
        looked_at = held_out_rows(held_out, names, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on)
        chosen = spec.held_out.chosen(looked_at, names, tokens_between=float("inf"))
        epoch = steps(items, size=spec.batch_size, batches="mixed")
        watch = Epochs(HeldOut(chosen, 1, batch=spec.micro_batch or spec.batch_size), every=len(epoch))
        network = spec.adapter.attach(network, previous=None, seed=seed, given=given)
        order = Planned(epoch * _how(spec).epochs)
        fit(network, order, names, spec=spec, device=device, seed=seed, folder=folder, watch=watch)
    return watch.losses
