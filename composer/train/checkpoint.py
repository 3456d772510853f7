"""Checkpoints of a training: whole or not there, without pickle, and enough to go on to the bit.

``checkpoint-<step>/`` holds the weights that move, the optimiser's moments and the states of chance as safetensors, and as JSON
where the order of samples stands, the account of the steps taken, the learning rate's schedule and the Trainer's own state. It
is written aside, made durable and renamed; the one before goes only then, so that a full disk or a kill leaves a good one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import FaultError
from composer.fingerprint import write_json
from composer.train import shards

if TYPE_CHECKING:
    from torch import Tensor

    from composer.train.trainer import ComposerTrainer

NAME = "checkpoint-"
WEIGHTS, OPTIMIZER, CHANCE = "weights.safetensors", "optimizer.safetensors", "chance.safetensors"
SEEN = "adapter/"  # before the names of what the adapter saw
STATE, TRAINER = "state.json", "trainer_state.json"  # the second is the Trainer's own name


def latest(folder: Path, *, device: Any = "cpu") -> Path | None:
    """Return the checkpoint of the most steps in a folder, if there is one; the first process says which."""
    step = shards.agreed(_last(folder), device=device)
    return folder / f"{NAME}{step}" if step else None


def _last(folder: Path) -> int:
    return max((int(path.name.removeprefix(NAME)) for path in folder.glob(f"{NAME}*") if (path / STATE).is_file()), default=0)


def write(trainer: ComposerTrainer, folder: Path) -> None:
    """Write a checkpoint of a trainer between two steps; every process calls it and the first one writes.

    Raises
    ------
    FaultError
        Where the disk is full or cannot be written to; the checkpoint before is left as it is.
    """
    from safetensors import SafetensorError

    step, moments = trainer.state.global_step, trainer.optimizer.state_dict()
    tensors = {
        WEIGHTS: {name: shards.whole(parameter) for name, parameter in _moving(trainer).items()},
        OPTIMIZER: {f"{i}/{k}": shards.whole(v) for i, state in moments["state"].items() for k, v in state.items()},
        CHANCE: _chance(trainer) | _account(trainer) | _seen(trainer),
    }
    if not trainer.args.should_save:
        return
    try:
        _write(trainer, folder, tensors, step=step, groups=moments["param_groups"])
    except (OSError, SafetensorError) as error:
        last = f"that of step {before} is whole" if (before := _last(folder)) else "there is none before it"
        hint = f"make room and run the same again; {last}"
        raise FaultError(f"no checkpoint could be written: {error}", where=f"step {step}", got=str(folder), hint=hint) from None


def _write(
    trainer: ComposerTrainer, folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], *, step: int, groups: Any
) -> None:  # fmt: skip
    from safetensors.torch import save_file

    aside, final = folder / f".{NAME}{step}", folder / f"{NAME}{step}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for name, each in tensors.items():
        save_file({key: value.detach().cpu().contiguous() for key, value in each.items()}, aside / name)
    trainer.state.save_to_json(str(aside / TRAINER))
    kept = {
        "step": step, "domains": list(trainer.domains), "standing": trainer.standing(),
        "schedule": trainer.lr_scheduler.state_dict(), "groups": groups, "chance": _legacy(),
    }  # fmt: skip
    write_json(aside / STATE, kept)
    for path in (*aside.iterdir(), aside):
        _to_disk(path)
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    for older in folder.glob(f"{NAME}*"):
        if older != final:
            shutil.rmtree(older)


def restore_weights(trainer: ComposerTrainer, folder: Path) -> None:
    """Put the weights of a checkpoint into a trainer's module, and the order and the account where they stood.

    Raises
    ------
    FaultError
        For a checkpoint that cannot be read or is of another training.
    """
    import torch

    from composer.train.trainer import Step

    kept, moving = _json(folder / STATE), _moving(trainer)
    found, account = _tensors(folder / WEIGHTS), _tensors(folder / CHANCE)
    if set(moving) != set(found) or kept["domains"] != list(trainer.domains):
        hint = "remove the folder, then training starts anew"
        raise FaultError("a checkpoint of another training", where=str(folder), hint=hint)
    with torch.no_grad():
        for name, parameter in moving.items():
            parameter.copy_(_as(found[name], parameter))
    trainer.adapter.after_step(trainer.accelerator.unwrap_model(trainer.model))  # what follows from them follows again
    for name, value in trainer.adapter.account(trainer.accelerator.unwrap_model(trainer.model)).items():
        value.zero_()
        if shards.first():  # which goes on with the sum of all
            value.copy_(account[f"{SEEN}{name}"])
    columns = (account[name].numpy() for name in ("rows", "tokens", "losses", "counts"))
    taken = [Step(int(n), int(tokens), losses, counts) for n, tokens, losses, counts in zip(*columns, strict=True)]
    trainer.go_on_from(kept["standing"], taken)


def restore_optimizer(trainer: ComposerTrainer, folder: Path) -> None:
    """Put the moments and the learning rate of a checkpoint into a trainer's optimiser and scheduler."""
    kept = _json(folder / STATE)
    parameters = [parameter for group in trainer.optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in _tensors(folder / OPTIMIZER).items():
        i, name = key.split("/")
        state.setdefault(int(i), {})[name] = _as(value, parameters[int(i)]) if value.ndim else value
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in kept["groups"]]
    trainer.optimizer.load_state_dict({"state": state, "param_groups": groups})
    trainer.lr_scheduler.load_state_dict(kept["schedule"])


def restore_chance(trainer: ComposerTrainer, folder: Path) -> None:
    """Put the random states of a checkpoint back."""
    import torch

    python, legacy = _json(folder / STATE)["chance"]
    random.setstate((python[0], tuple(python[1]), python[2]))
    np.random.set_state((legacy[0], np.array(legacy[1], dtype=np.uint32), *legacy[2:]))
    states, mine = _tensors(folder / CHANCE), f"/{trainer.args.process_index}"
    torch.random.set_rng_state(states.get(f"cpu{mine}", states["cpu/0"]))
    if trainer.args.device.type == "cuda" and "cuda/0" in states:
        torch.cuda.set_rng_state(states.get(f"cuda{mine}", states["cuda/0"]))


def _moving(trainer: ComposerTrainer) -> Mapping[str, Tensor]:
    return trainer.adapter.state(trainer.accelerator.unwrap_model(trainer.model))


def _as(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor, or this process's part of it where ``like`` is held in parts."""
    if not hasattr(like, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)  # type: ignore[attr-defined]


def _chance(trainer: ComposerTrainer) -> dict[str, Tensor]:
    """Return every process's states: each draws its own dropout."""
    import torch

    states = {"cpu": torch.random.get_rng_state()}
    if trainer.args.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    every = {name: shards.of_every(state, device=trainer.args.device) for name, state in states.items()}
    return {f"{name}/{i}": state for name, each in every.items() for i, state in enumerate(each)}


def _legacy() -> Sequence[Any]:
    name, keys, *rest = np.random.get_state()
    return random.getstate(), (name, np.asarray(keys).tolist(), *rest)


def _account(trainer: ComposerTrainer) -> dict[str, Tensor]:
    import torch

    taken = trainer.taken
    return {
        "rows": torch.tensor([step.n_rows for step in taken]),
        "tokens": torch.tensor([step.n_tokens for step in taken]),
        "losses": torch.tensor(np.array([step.losses for step in taken])),
        "counts": torch.tensor(np.array([step.counts for step in taken])),
    }


def _seen(trainer: ComposerTrainer) -> dict[str, Tensor]:
    account = trainer.adapter.account(trainer.accelerator.unwrap_model(trainer.model))
    return {f"{SEEN}{name}": shards.summed(value) for name, value in account.items()}


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        hint = "remove its folder, then training starts anew"
        raise FaultError(f"a checkpoint that cannot be read: {error}", where=str(path), hint=hint) from None
