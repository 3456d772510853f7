"""Experts in a model: put in the place of linear maps, written to a folder and read from one, and seen at every pass.

``experts.safetensors`` holds ``A``, ``B`` and ``Wg`` of every map under its path in the model, and ``experts.json`` the
settings with the maps' paths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from composer.errors import ModelError
from composer.fingerprint import write_json
from composer.train.layout import IGNORED, real_tokens
from composer.train.model import linear_maps
from composer.train.moe.balance import Form, OwnGroup, balance, importance, loads
from composer.train.moe.layer import Experts, Sink

WEIGHTS, SETTINGS = "experts.safetensors", "experts.json"
MOVING = ("A", "B", "Wg")


@dataclass
class Placed:
    """What a model's experts share, kept on the model as ``experts``.

    ``domain_types`` says of every domain whether it is of knowledge, bool (domains,), ``expert_types`` the same of the experts;
    the first is absent where nothing is known of the domains. ``batch`` is the one that goes through the model;
    ``sums`` are those of the shares over a domain's tokens, float64 (maps, domains, experts), ``n_tokens`` their number.
    """

    maps: tuple[str, ...]
    sink: Sink
    expert_types: Tensor
    domain_types: Tensor | None = None
    batch: Mapping[str, Tensor] | None = None
    sums: Tensor | None = None
    n_tokens: Tensor | None = None

    def know(self, domain_types: Sequence[bool]) -> None:
        """Learn of every domain whether it is of knowledge, and begin to count what it gives to which expert."""
        self.domain_types = torch.tensor(domain_types)
        self.sums = torch.zeros(len(self.maps), len(domain_types), len(self.expert_types), dtype=torch.float64)
        self.n_tokens = torch.zeros(len(domain_types), dtype=torch.float64)

    def before(self, batch: Mapping[str, Tensor], *, seen: bool) -> None:
        """Take the shares of the coming pass, if they are to be seen."""
        self.sink.emptied(anew=seen)
        self.batch = batch if seen else None

    def loads(self) -> Tensor | None:
        """Return the loads of the pass, float32 (layers, rows, experts), and forget it; none where it was not to be seen."""
        taken, batch, self.batch = self.sink.emptied(anew=False), self.batch, None
        if batch is None or not taken:
            return None
        real = real_tokens(batch)
        found = loads(torch.stack([taken[path] for path in self.maps]), real)
        self._count(found.detach(), real, batch)
        return found

    def _count(self, load: Tensor, real: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Add to the sums what the rows gave that are trained on."""
        assert self.sums is not None
        assert self.n_tokens is not None
        self.sums, self.n_tokens = self.sums.to(load.device), self.n_tokens.to(load.device)
        n = (real.sum(1) * (batch["labels"] != IGNORED).any(1)).double()
        of = torch.nn.functional.one_hot(batch["domain"], len(self.n_tokens)).double() * n[:, None]  # (rows, domains)
        self.sums += torch.einsum("md,lmn->ldn", of, load.double())
        self.n_tokens += of.sum(0)

    def shares(self) -> Tensor:
        """Return the mean shares over the tokens of a domain, float64 (maps, domains, experts)."""
        assert self.sums is not None
        assert self.n_tokens is not None
        return self.sums / self.n_tokens[None, :, None]

    def uneven(self, load: Tensor, domain: Tensor, *, delta: float, own_group: OwnGroup, form: Form) -> Tensor:
        """Return how uneven the loads are of rows of these domains, int64 (rows,)."""
        assert self.domain_types is not None
        row_types = self.domain_types.to(load.device)[domain]
        counts = importance(row_types, self.expert_types.to(load.device), delta=delta, own_group=own_group)
        return balance(load, counts, form=form)


def place(network: Any, maps: Sequence[str], *, expert_types: Sequence[bool], **fields: Any) -> Any:
    """Freeze a model, put fresh experts in the place of its linear maps of these paths, and return it.

    ``fields`` are those of :class:`composer.train.moe.layer.Experts`.

    Raises
    ------
    ModelError
        For a path at which there is no linear map.
    """
    linear, sink = linear_maps(network), Sink()
    if missing := [path for path in maps if path not in linear]:
        raise ModelError("experts of another model", expected=", ".join(list(linear)[:8]), got=f"for {missing[0]}")
    network.requires_grad_(False)
    for path in maps:
        network.set_submodule(path, Experts(linear[path], name=path, sink=sink, **fields))
    network.experts = Placed(tuple(maps), sink, torch.tensor(expert_types))
    return network


def moving(network: Any) -> dict[str, Tensor]:
    """Return the parameters of a model's experts by path and name."""
    return {f"{path}.{name}": getattr(network.get_submodule(path), name) for path in network.experts.maps for name in MOVING}


def write(network: Any, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the experts of a model, and the settings that they were made with."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in moving(network).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    write_json(folder / SETTINGS, {**settings, "maps": network.experts.maps})


def settings_in(folder: Path) -> dict[str, Any]:
    """Return what experts in a folder were made with, and the paths of their ``maps``.

    Raises
    ------
    ModelError
        Where there are none, or where they cannot be read.
    """
    for name in (SETTINGS, WEIGHTS):
        if not (folder / name).is_file():
            hint = "loramoe leaves them in its adapter/"
            raise ModelError("no experts in the folder", expected=name, got=str(folder), hint=hint)
    try:
        found: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        found["maps"] = tuple(found["maps"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"broken settings of experts: {error}", where=str(folder / SETTINGS), hint="train it again") from None
    return found


def read(network: Any, folder: Path) -> None:
    """Put the weights in a folder into a model's experts.

    Raises
    ------
    ModelError
        Where they cannot be read or are not those of these experts.
    """
    where, own = str(folder / WEIGHTS), moving(network)
    try:
        found = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"experts that cannot be read: {error}", where=where, hint="train it again") from None
    shapes, expected = ({name: tuple(value.shape) for name, value in each.items()} for each in (found, own))
    for name in sorted(shapes.keys() | expected.keys()):
        if shapes.get(name) != expected.get(name):
            told = (f"{name} of shape {each[name]}" if name in each else f"no {name}" for each in (expected, shapes))
            raise ModelError("experts of another model", where=where, expected=next(told), got=next(told))
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(found[name])
