"""A bank of LoRAs on one frozen base: every row of a batch takes its own in the same pass, or none.

The parts of an expert are parameters of their own and not slices of one tensor: what no row takes has no gradient at all, so
that AdamW leaves it as it is, without decay and with its moments. In a pass the experts that are taken are stacked and gathered
by row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from composer.errors import FaultError, ModelError, SpecError
from composer.fingerprint import write_json
from composer.train.model import linear_maps

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = -1  # the number of no expert
_PREFIX = "base_model.model."
_PLAIN = {"bias": ("none", None), "use_dora": (False, None), "modules_to_save": (None,)}


@dataclass(frozen=True)
class Expert:
    """A LoRA as peft keeps it: its ``config``, and by the path of a linear map ``A`` (rank, in) and ``B`` (out, rank)."""

    config: Mapping[str, Any]
    parts: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def rank(self) -> int:
        """The rank of all parts."""
        return int(self.config["r"])

    @property
    def alpha(self) -> float:
        """What the update is multiplied by, times the rank."""
        return float(self.config["lora_alpha"])

    @property
    def rslora(self) -> bool:
        """Whether its scale goes by the root of the rank."""
        return bool(self.config.get("use_rslora"))

    @property
    def scale(self) -> float:
        """What the update ``B A`` is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @property
    def targets(self) -> list[str]:
        """The linear maps that it changes."""
        return sorted(self.parts)


def read_expert(folder: Path, *, name: str) -> Expert:
    """Return the LoRA of a folder that peft, or an artifact of the adapter lora, left.

    Raises
    ------
    ModelError
        Where there is none, it cannot be read, or it is more than plain updates of one rank.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = folder / "adapter" if (folder / "adapter").is_dir() else folder
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise ModelError(f"no LoRA of the expert {name}", where=str(folder), expected=file)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
        odd = [key for key, plain in _PLAIN.items() if config.get(key) not in plain]
        odd += [key for key in ("rank_pattern", "alpha_pattern") if config.get(key)]
        places = dict.fromkeys(key.removeprefix(_PREFIX).partition(".lora_")[0] for key in tensors)
        parts = {place: tuple(tensors.pop(f"{_PREFIX}{place}.lora_{each}.weight") for each in "AB") for place in places}
        ranks = {int(part.shape[axis]) for pair in parts.values() for axis, part in enumerate(pair)}
        assert {"r", "lora_alpha"} <= set(config)
    except (KeyError, ValueError, SafetensorError, AssertionError) as error:
        raise ModelError(f"no LoRA of the expert {name}: {error!r}"[:300], where=str(folder)) from None
    if odd or tensors or ranks != {int(config["r"])}:
        got = ", ".join([*odd, *list(tensors)[:1]]) or f"ranks {sorted(ranks)}"
        raise ModelError(f"the expert {name} is no plain LoRA", where=str(folder), expected="updates of one rank", got=got)
    return Expert(config, parts)  # type: ignore[arg-type]


def write_expert(expert: Expert, folder: Path) -> None:
    """Write a LoRA so that peft and vLLM load it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    named = {f"{_PREFIX}{place}.lora_{each}.weight": part for place, pair in expert.parts.items()
             for each, part in zip("AB", pair, strict=True)}  # fmt: skip
    tensors = {name: part.detach().cpu().contiguous() for name, part in named.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    base = expert.config.get("base_model_name_or_path") or ""
    own = {"inference_mode": True, "base_model_name_or_path": "" if Path(base).exists() else base}
    write_json(folder / CONFIG, {**expert.config, **own})


def check_alike(experts: Mapping[str, Expert]) -> None:
    """Refuse experts of which one has another rank, scale or places than the first.

    Raises
    ------
    SpecError
        For the first that differs, with both names.
    """
    first, *others = experts
    for name in others:
        for field in ("rank", "alpha", "rslora", "targets"):
            ours, theirs = (getattr(experts[each], field) for each in (first, name))
            if ours != theirs:
                expected, got = f"{str(ours)[:200]} as in {first}", f"{str(theirs)[:200]} in {name}"
                hint = "train all experts with the same settings"
                raise SpecError("the experts are not alike", where=field, expected=expected, got=got, hint=hint)


class Taken:
    """Which experts the rows of a batch take: ``used`` are their numbers, ``places`` (rows,) where each row's stands there.

    A row of the base alone stands behind the last. ``places`` is absent where all rows take the same.
    """

    def __init__(self, experts: Tensor) -> None:
        self.n_rows = len(experts)
        found, places = torch.unique(experts, return_inverse=True)  # BASE, if any, comes first
        numbers = found.tolist()
        with_base = numbers[0] == BASE
        self.used: list[int] = numbers[with_base:]
        self.with_base = with_base and bool(self.used)
        places = (places - 1) % len(numbers) if with_base else places
        self.places: Tensor | None = places if len(numbers) > 1 else None


class BankedLinear(nn.Module):
    """A frozen linear map ``W`` with N updates: row i of a batch becomes ``W x + scale B_e(i) A_e(i) x``.

    ``taken`` says which expert ``e(i)`` each row takes; where it is absent the base answers alone.
    """

    def __init__(self, base: nn.Module, *, scale: float, dropout: float) -> None:
        super().__init__()
        self.base, self.scale, self.dropout = base, scale, dropout
        self.A, self.B = nn.ParameterList(), nn.ParameterList()
        self.taken: Taken | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of ``x`` (rows, ..., in) as (rows, ..., out), in the dtype of the base's."""
        out: Tensor = self.base(x)
        taken = self.taken
        if taken is None or not taken.used:
            return out
        if len(x) % taken.n_rows:
            raise FaultError("experts were chosen for other rows", expected=f"{taken.n_rows} rows", got=f"{len(x)}")
        own = nn.functional.dropout(x.to(self.A[taken.used[0]].dtype), self.dropout, self.training)
        if taken.places is None:
            down, up = self.A[taken.used[0]], self.B[taken.used[0]]
            update = nn.functional.linear(nn.functional.linear(own, down), up)
        else:
            down, up = (self._gathered(parts, taken, taken.places).mT for parts in (self.A, self.B))
            update = own.reshape(taken.n_rows, -1, own.shape[-1]).bmm(down).bmm(up).view_as(out)
        return out + (update * self.scale).to(out.dtype)

    def _gathered(self, parts: nn.ParameterList, taken: Taken, places: Tensor) -> Tensor:
        stacked = [parts[number] for number in taken.used]
        if taken.with_base:
            stacked.append(torch.zeros_like(stacked[0]))
        every = torch.stack(stacked)
        # not index_select: on a GPU its gradient adds in another order every time
        return nn.functional.embedding(places, every.flatten(1)).view(len(places), *every.shape[1:])


class Bank:
    """The experts of a network, in the order of ``names``, in place of its linear maps.

    Parameters
    ----------
    network
        A causal language model, changed in place: its own weights need no gradient any more.
    experts
        LoRAs by name, all alike.
    dropout
        Of what goes into the updates while training.

    Raises
    ------
    SpecError
        Where the experts are not alike.
    ModelError
        Where they change linear maps that the network has not, or not inside of its blocks.
    """

    def __init__(self, network: Any, experts: Mapping[str, Expert], *, dropout: float = 0.0) -> None:
        check_alike(experts)
        network.requires_grad_(False)
        self.names: list[str] = list(experts)
        self._configs = [dict(expert.config) for expert in experts.values()]
        first = next(iter(experts.values()))
        blocks, linear = blocks_of(network), linear_maps(network)
        self.n_blocks = len(blocks)
        self.maps: dict[str, BankedLinear] = {}
        self._block: dict[str, int] = {}
        paths = {id(module): path for path, module in network.named_modules()}
        prefixes = [f"{paths[id(block)]}." for block in blocks]
        for place in first.parts:
            inside = [i for i, prefix in enumerate(prefixes) if place.startswith(prefix)]
            if place not in linear or not inside:
                what = "experts of another model" if place not in linear else "an expert outside of the decoder's blocks"
                raise ModelError(what, where="experts", got=place, expected="linear maps of its blocks")
            self.maps[place] = banked = BankedLinear(linear[place], scale=first.scale, dropout=dropout)
            self._block[place] = inside[0]
            for name, expert in experts.items():
                _check_shapes(linear[place], expert.parts[place], place=place, name=name)
                for own, part in zip((banked.A, banked.B), expert.parts[place], strict=True):
                    own.append(nn.Parameter(part.detach().to(network.device, torch.float32).clone()))
            network.set_submodule(place, banked.train(linear[place].training))

    def take(self, experts: Tensor | None, *, block: int | None = None) -> None:
        """Let the next passes take the experts of these numbers, int64 (rows,), in one block or in all; None is the base."""
        taken = None if experts is None else Taken(experts)
        for place, banked in self.maps.items():
            if block is None or self._block[place] == block:
                banked.taken = taken

    def expert(self, name: str) -> Expert:
        """Return an expert as it is now."""
        i = self.names.index(name)
        parts = {place: (banked.A[i].detach(), banked.B[i].detach()) for place, banked in self.maps.items()}
        return Expert(self._configs[i], parts)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield all parts of all experts."""
        for banked in self.maps.values():
            yield from (*banked.A, *banked.B)


def blocks_of(network: Any) -> Sequence[nn.Module]:
    """Return the decoder's blocks.

    Raises
    ------
    ModelError
        Where there is no list of as many modules as the config has layers.
    """
    n = network.config.get_text_config().num_hidden_layers
    for module in network.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n:
            return list(module)
    raise ModelError("no blocks to route in", got=type(network).__name__, expected=f"a list of {n} decoder blocks")


def _check_shapes(linear: nn.Module, pair: tuple[Tensor, Tensor], *, place: str, name: str) -> None:
    weight: Any = linear.weight
    n_out, n_in = weight.shape if isinstance(linear, nn.Linear) else weight.shape[::-1]  # GPT-2 stores W transposed
    got = pair[0].shape[1], pair[1].shape[0]
    if got != (n_in, n_out):
        expected = f"{n_in} in and {n_out} out"
        raise ModelError(f"the expert {name} is of another model", where=place, expected=expected, got=f"{got[0]} and {got[1]}")
