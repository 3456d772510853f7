"""Calibration of a mask: full training for a few steps, of which only is kept which entries moved furthest.

It goes on from the base, or from a trained artifact whose entries are then held fast and kept out of the mask, so that the
masks of a sequence are disjoint (LoTTO). One step of AdamW would move all weights by about the learning rate, and rounding
would choose among them; so where there is one step only, the gradient stands for it, as in plain gradient descent.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from composer.errors import SpecError
from composer.fingerprint import write_json
from composer.spec import seed_of
from composer.train.adapters.full import Full
from composer.train.adapters.lota import DELTA, MASK
from composer.train.batches import Reader, steps
from composer.train.fit import ASIDE, fit
from composer.train.held_out import HeldOutRows
from composer.train.isolated import isolated
from composer.train.layout import check_isolation
from composer.train.model import load
from composer.train.order import Planned
from composer.train.sparse.mask import Mask, extract_mask, maskable, shapes_of, to_keep
from composer.train.sparse.stored import size
from composer.train.sparse.vector import SparseDelta
from composer.train.train import check_lengths, device_of
from composer.types import LossOn, ModelRef

if TYPE_CHECKING:
    from torch import Tensor

    from composer.train.train import Train

TOLD = "mask.json"


class Held(Full):
    """Full training in which the entries of earlier masks keep their bits."""

    def hold(self, model: Any, weights: Mapping[str, Any], earlier: SparseDelta | None) -> Any:
        """Return the model to train, whose ``weights`` have the values of the earlier masks."""
        model.maskable, model.held = tuple(weights), []
        if earlier is not None:
            earlier.apply(weights)
            for name, places in earlier.mask.kept.items():
                there = places.to(weights[name].device)
                model.held.append((weights[name], there, weights[name].detach().view(-1)[there]))
        return self.attach(model)

    def after_backward(self, model: Any) -> None:
        """Take what is held out of the gradients, before they are clipped."""
        for weight, places, _ in model.held:
            weight.grad.view(-1).index_fill_(0, places, 0)

    def after_step(self, model: Any) -> None:
        """Put back what decay moved of what is held."""
        for weight, places, values in model.held:
            weight.data.view(-1).index_copy_(0, places, values)

    def moved(self, model: Any, name: str, before: Tensor) -> Tensor:
        """Return by how much a weight moved, in float32."""
        found: Tensor = model.get_parameter(name).detach().cpu() - before
        return found


class Downhill(Held):
    """A single step, of which the gradient is kept."""

    def after_backward(self, model: Any) -> None:
        """Keep the gradient, without what is held."""
        super().after_backward(model)
        model.gradient = {name: model.get_parameter(name).grad.detach().cpu() for name in model.maskable}

    def moved(self, model: Any, name: str, before: Tensor) -> Tensor:  # noqa: ARG002
        """Return the gradient of a weight."""
        found: Tensor = model.gradient[name]
        return found


def calibration(spec: Train) -> Train:
    """Return what of a training's settings its calibration goes by: not how long it is, nor how rate and weights move."""
    same = {"epochs": 1, "lr_schedule": "constant", "warmup_ratio": 0.0, "law": None, "reference": None}
    return spec.model_copy(update={**same, "held_out": HeldOutRows(), "report_to": (), "processes": 1})


def calibrate(
    composition: pl.DataFrame, samples: pl.DataFrame, *, model: ModelRef, start: Path | None, spec: Train, max_length: int,
    loss_on: LossOn = "all", seed: int, folder: Path,
) -> dict[str, Any]:  # fmt: skip
    """Train fully for a few steps, and write the mask of the entries that moved furthest into a folder.

    Parameters
    ----------
    composition, samples, model, max_length, loss_on, seed, folder
        As for :func:`composer.train.train.train`. The first rows are trained on, over again where they do not suffice. A
        calibration that was stopped goes on from the checkpoint in the folder.
    start
        Folder of a trained artifact to go on from, whose masks are forbidden.
    spec
        Settings of the training that the mask is for; its rate is held constant, and one process calibrates.

    Returns
    -------
    dict
        ``steps``, ``rows``, ``wanted`` (K), ``kept``, ``entries`` and ``density``; ``mask.json`` has them as well, and for each
        kind of matrix its share of kept entries and of those that earlier masks keep.

    Raises
    ------
    ModelError, InputError, SpecError, FaultError
        As for training; a SpecError, too, where earlier masks leave too little, or where nothing moved.
    """
    how, adapter = calibration(spec), spec.adapter
    if "mask" not in adapter.needs:
        raise SpecError("an adapter without a mask", where="train.adapter", expected="lota", got=adapter.name)
    device = device_of(how)
    folder.mkdir(parents=True, exist_ok=True)
    with isolated(seed_of(seed, "calibrate"), threads=how.threads):
        network, tokenizer = load(model, device=device, exact=True, attention=how.attention)
        rows = composition.head(how.batch_size * adapter.calibration_steps)
        reader = Reader(rows, samples, tokenizer=tokenizer, max_length=max_length, loss_on=loss_on)
        check_lengths(zip(reader.table["sample_id"], reader.table["n_tokens"], strict=True), network, packing=how.packing)
        if how.packing is not None:
            check_isolation(network, micro_batch=how.micro_batch)
        once = steps(reader.read(range(rows.height)), size=how.batch_size, batches=how.batches)
        order = Planned([once[i % len(once)] for i in range(adapter.calibration_steps)])
        weights = maskable(network, adapter.targets)
        earlier = None if start is None else SparseDelta.load(start / adapter.where / DELTA)
        if earlier is not None:
            earlier.mask.check(shapes_of(weights), where="the previous adapter")
        moved = _moved(network, weights, order, earlier, reader.domains, spec=how, device=device, seed=seed, folder=folder)
        mask = extract_mask(moved, adapter.sparsity, adapter.scope, None if earlier is None else earlier.mask)
    if not mask.n_kept:
        raise SpecError("nothing moved in the calibration", where="train.learning_rate", got=how.learning_rate, hint="raise it")
    mask.save(folder / MASK)
    told = {"steps": order.n_steps, "rows": rows.height, **_account(mask, earlier, adapter)}
    write_json(folder / TOLD, told)
    shutil.rmtree(folder / ASIDE, ignore_errors=True)
    return {name: told[name] for name in ("steps", "rows", "wanted", "kept", "entries", "density")}


def _moved(
    network: Any, weights: Mapping[str, Any], order: Planned, earlier: SparseDelta | None, domains: Sequence[str], *,
    spec: Train, device: str, seed: int, folder: Path,
) -> dict[str, Tensor]:  # fmt: skip
    """Train, and return by how much each weight moved, or its gradient where there is one step only."""
    adapter = Held() if order.n_steps > 1 else Downhill()
    network = adapter.hold(network, weights, earlier)
    before = {name: weight.detach().cpu().clone() for name, weight in weights.items()}
    fit(network, order, domains, spec=spec.model_copy(update={"adapter": adapter}), device=device, seed=seed, folder=folder)
    return {name: adapter.moved(network, name, value) for name, value in before.items()}


def _account(mask: Mask, earlier: SparseDelta | None, adapter: Any) -> dict[str, Any]:
    """Return what is told of a mask: its size, and how dense it is in every kind of matrix."""
    sizes = {name: size(shape) for name, shape in mask.shapes.items()}
    wanted = to_keep(mask.n_entries, adapter.sparsity) if adapter.scope == "global" else sum(
        to_keep(n, adapter.sparsity) for n in sizes.values()
    )  # fmt: skip
    kinds: dict[str, dict[str, Any]] = {}
    for name, n in sizes.items():
        own = kinds.setdefault(kind_of(name), {"matrices": 0, "entries": 0, "kept": 0, "earlier": 0})
        own["matrices"] += 1
        own["entries"] += n
        own["kept"] += len(mask.kept[name])
        own["earlier"] += 0 if earlier is None else len(earlier.mask.kept[name])
    for own in kinds.values():
        own["density"] = own["kept"] / own["entries"]
    return {
        "sparsity": adapter.sparsity, "scope": adapter.scope, "wanted": wanted, "kept": mask.n_kept, "entries": mask.n_entries,
        "density": mask.density, "earlier": 0 if earlier is None else earlier.mask.n_kept,
        "overlap": 0.0 if earlier is None else mask.overlap(earlier.mask), "kinds": kinds,
    }  # fmt: skip


def kind_of(name: str) -> str:
    """Return the kind of a weight, which the layers have in common.

    Examples
    --------
    >>> kind_of("model.layers.11.self_attn.q_proj.weight"), kind_of("transformer.h.0.mlp.c_fc.weight")
    ('self_attn.q_proj', 'mlp.c_fc')
    """
    return re.sub(r"^.*\.\d+\.", "", name).removesuffix(".weight")
