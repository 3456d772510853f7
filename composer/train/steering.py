"""What steers a training whose domain weights move: looks at held-out losses, asks the law, and sets the order's weights.

Everything it saw and did is kept in WEIGHTS, one row per look and domain. The weights of all looks, put in force at the same
steps, give the same order of samples: :func:`levels_of` makes the law of them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray

from composer.errors import InputError
from composer.progress import say
from composer.tables import WEIGHTS, write
from composer.train.batches import Reader, Row, Supply
from composer.train.held_out import HeldOut
from composer.train.order import Weighted
from composer.train.reweight import Look, Move, Reweighting
from composer.train.reweight.levels import Levels
from composer.train.trace import series
from composer.types import Unit

if TYPE_CHECKING:
    from composer.train.train import Train
    from composer.train.trainer import ComposerTrainer, Step


class Watch(Protocol):
    """What a trainer asks before every step and once after the last."""

    def before(self, trainer: ComposerTrainer) -> None:
        """See what the next step is to know."""

    def state(self) -> dict[str, Any]:
        """Return what was seen, as plain JSON."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what was seen."""


@dataclass(frozen=True, kw_only=True)
class Moving:
    """What a training needs whose weights move.

    ``reserve`` (COMPOSITION) is what the composition left over, ``held_out`` (SAMPLE) the rows that are looked at, ``weights``
    the shares of the unit that it begins with, and ``references`` the reference loss of every domain, where the law asks.
    """

    reserve: pl.DataFrame
    held_out: pl.DataFrame
    weights: Mapping[str, float]
    unit: Unit
    references: Mapping[str, float] | None = None


class Steering:
    """A law at work on an order."""

    def __init__(
        self, law: Reweighting, order: Weighted, held_out: HeldOut, domains: Sequence[str], *,
        reference: Sequence[float] | None,
    ) -> None:  # fmt: skip
        self.law, self.order, self.held_out, self.domains = law, order, held_out, tuple(domains)
        self.reference = None if reference is None else np.array(reference, dtype=np.float64)
        self.rows: list[dict[str, Any]] = []
        self._memory: Mapping[str, Any] = {}
        self._told_dry = 0

    def before(self, trainer: ComposerTrainer) -> None:
        """Look and set the weights where the law is due, look once more at the end, and say which domains have run dry."""
        step = trainer.state.global_step
        for _, k in self.order.exhausted[self._told_dry :]:
            say(f"step {step}: no more rows of {self.domains[k]}; the others take its share")
        self._told_dry = len(self.order.exhausted)
        over = step == trainer.state.max_steps
        if not (over or self.law.due(step)):
            return
        losses, weights = self.held_out.look(trainer), np.array(self.order.weights)
        look = Look(
            step=step, domains=self.domains, weights=weights, loss=losses.mean, previous=self._previous(),
            reference=self.reference, train_loss=self._trained_since(trainer.taken), memory=self._memory,
        )  # fmt: skip
        move = Move(weights=weights, state="over") if over else self.law.move(look)
        self.order.set_weights(move.weights.tolist())
        self._memory = move.memory
        if trainer.args.logging_strategy != "no":
            trainer.log(series("weight", self.domains, move.weights) | series("held_out_loss", self.domains, losses.mean))
        position = sum(each.n_rows for each in trainer.taken)
        for k, domain in enumerate(self.domains):
            self.rows.append({
                "step": step, "position": position, "domain": domain, "weight": float(move.weights[k]),
                "loss_nats": float(losses.mean[k]), "n_loss_tokens": int(losses.n_tokens[k]),
                "reference_nats": None if self.reference is None else float(self.reference[k]), "state": move.state,
                "told": [{"name": name, "value": float(values[k])} for name, values in move.told.items()],
            })  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return the rows so far, the law's memory, and what looking has taken."""
        return {"rows": self.rows, "memory": dict(self._memory), "seconds": self.held_out.seconds}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.rows, self._memory, self.held_out.seconds = list(state["rows"]), state["memory"], state["seconds"]
        self._told_dry = len(self.order.exhausted)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the looks and the law that sets the same weights again, and return the sums of the looks."""
        looks = pl.DataFrame(self.rows, schema=pl.Schema(WEIGHTS))
        write(looks, folder / "weights.parquet", WEIGHTS)
        law = {"law": levels_of(looks).model_dump(mode="json", include={"name", "every", "levels"})}
        (folder / "levels.yaml").write_text(yaml.safe_dump(law, sort_keys=False, default_flow_style=None), encoding="utf-8")
        return {
            "looks": looks["step"].n_unique(),
            "weights": dict(zip(self.domains, self.order.weights, strict=True)),
            "exhausted": [{"step": step, "domain": self.domains[k]} for step, k in self.order.exhausted],
            "looking_seconds": round(self.held_out.seconds, 3),
        }

    def _previous(self) -> NDArray[np.float64] | None:
        last = self.rows[-len(self.domains) :]
        return np.array([row["loss_nats"] for row in last]) if last else None

    def _trained_since(self, taken: Sequence[Step]) -> NDArray[np.float64]:
        """Return the token means of what was trained on since the last look."""
        since = taken[self.rows[-1]["step"] if self.rows else 0 :]
        if not since:
            return np.full(len(self.domains), np.nan)
        losses, counts = (np.sum([getattr(step, of) for step in since], axis=0) for of in ("losses", "counts"))
        return np.asarray(np.divide(losses, counts, out=np.full(len(self.domains), np.nan), where=counts > 0))


def steer(
    items: Sequence[Row], measured: Sequence[Row], reader: Reader, *, spec: Train, moving: Moving
) -> Steering:  # fmt: skip
    """Return the law at work on an order of a composition's rows and those of its reserve, of which as much as items is drawn.

    Parameters
    ----------
    items, measured
        The rows of the composition, and held-out rows, as tokens.
    reader
        Of the composition and, behind it, its reserve; a domain gives its rows in this order, those in reserve read when they
        are reached.
    spec, moving
        What the training's law is and needs.

    Raises
    ------
    InputError
        For a domain without held-out rows or without a reference loss that the law needs.
    SpecError
        Where the law does not fit the domains.
    """
    law: Reweighting = spec.law  # type: ignore[assignment]
    domains, table = reader.domains, reader.table
    weights = law.start([moving.weights.get(domain, 0.0) for domain in domains], tuple(domains))
    order = Weighted(
        [_supply(domain, items, reader, unit=moving.unit) for domain in domains], weights=weights.tolist(),
        size=spec.batch_size, n_steps=math.ceil(len(items) / spec.batch_size), batches=spec.batches, n_rows=len(items),
        amount=sum(_sizes(table[: len(items)], moving.unit)),
    )  # fmt: skip
    between = float(table["n_tokens"].to_numpy().mean()) * spec.batch_size * law.every
    looked_at = spec.held_out.chosen(measured, domains, tokens_between=between)
    reference = None if moving.references is None else _references(moving.references, domains)
    held_out = HeldOut(looked_at, len(domains), batch=spec.micro_batch or spec.batch_size)
    return Steering(law, order, held_out, domains, reference=reference)


def _supply(domain: str, items: Sequence[Row], reader: Reader, *, unit: Unit) -> tuple[Supply, Sequence[int]]:
    own = reader.table.with_row_index("place").filter(pl.col("domain") == domain)
    places = own["place"].to_list()
    begin = bisect_left(places, len(items))
    supply = Supply([items[i] for i in places[:begin]], places[begin:], reader)
    return supply, _sizes(own, unit)


def _sizes(table: pl.DataFrame, unit: Unit) -> list[int]:
    return [1] * table.height if unit == "samples" else table[f"n_{unit}"].to_list()


def _references(told: Mapping[str, float], domains: Sequence[str]) -> list[float]:
    if missing := [domain for domain in domains if domain not in told]:
        raise InputError("no reference loss", where="train.reference", expected="one of every domain", got=", ".join(missing))
    return [told[domain] for domain in domains]


def levels_of(weights: pl.DataFrame) -> Levels:
    """Return the law that sets the weights of WEIGHTS at the same steps, whatever the losses then are, and looks as often.

    Examples
    --------
    >>> rows = [{"step": step, "domain": "law", "weight": 1.0} for step in (0, 50)]
    >>> levels_of(pl.DataFrame(rows)).levels
    ((0, {'law': 1.0}), (50, {'law': 1.0}))
    """
    by_step = weights.partition_by("step", maintain_order=True)
    levels = tuple((int(own["step"][0]), dict(own.select("domain", "weight").iter_rows())) for own in by_step)
    return Levels(levels=levels, every=levels[1][0] if len(levels) > 1 else 1)
