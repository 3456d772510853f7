"""What the adapters of peft share: the maps that they are put on, how they lie on disk, and how they come back."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from composer.errors import ModelError, SpecError
from composer.spec import seed_of
from composer.train.adapters import Adapter
from composer.train.model import linear_maps, with_adapter, wrapping
from composer.train.targets import chosen

if TYPE_CHECKING:
    from torch import Tensor

AT = "default"  # peft's name of the only adapter of a model


class Wrapped(Adapter):
    """The base of the adapters of which peft keeps a folder of its own.

    ``targets`` names modules by the end of their path (``q_proj``), or is ``all-linear`` for every linear map but the output.
    """

    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"

    where: ClassVar[str] = "adapter"
    needs_base: ClassVar[bool] = True

    @abstractmethod
    def config(self, maps: Mapping[str, Any], *, seed: int) -> Any:
        """Return the settings as peft takes them, for these linear maps by path.

        Raises
        ------
        SpecError
            Where they do not fit a map.
        """

    @abstractmethod
    def settings(self, config: Any) -> dict[str, Any]:
        """Return by our fields what a config of peft says of them."""

    @abstractmethod
    def delta(self, layer: Any) -> Tensor:
        """Return by how much a layer of peft moves its weight, float64 in the weight's shape."""

    def attach(self, model: Any, *, previous: Path | None, seed: int, **_: Any) -> Any:
        """Return a peft model with fresh updates that change nothing yet, or with those of the previous artifact."""
        linear = linear_maps(model)
        places = chosen(linear, self.targets)
        if previous is not None:
            return self._same(with_adapter(model, previous / self.where, trainable=True), places)
        own = seed_of(seed, self.name)
        return wrapped(model, self.config({name: linear[name] for name in linear if name in places}, seed=own), seed=own)

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:  # noqa: ARG002
        """Write the updates and their settings as peft reads them.

        ``save_pretrained`` of peft would ask the Hub for the base's vocabulary, list the targets in another order every time
        and leave the base's local path in the artifact.
        """
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        (folder / self.where).mkdir(parents=True, exist_ok=True)
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        save_file(tensors, folder / self.where / "adapter_model.safetensors", metadata={"format": "pt"})
        config = copy.deepcopy(model.peft_config[AT])
        config.target_modules = sorted(config.target_modules)
        config.inference_mode = True
        if Path(config.base_model_name_or_path or "").exists():
            config.base_model_name_or_path = ""
        config.save_pretrained(folder / self.where)

    def apply(self, network: Any, folder: Path) -> Any:
        """Return the base with the updates merged into its weights."""
        return with_adapter(network, folder).merge_and_unload()

    def deltas(self, network: Any, folder: Path) -> Mapping[str, Callable[[], Tensor]]:
        """Return what gives every update, in its scale; to be asked before the base's weight is changed."""
        adapted = with_adapter(network, folder)
        config = adapted.peft_config[AT]
        kind, bias, more = word_of(config), getattr(config, "bias", "none"), config.modules_to_save
        if kind != self.name or bias != "none" or more:
            got = f"{kind} with bias {bias}, modules_to_save {more}"
            raise ModelError("it cannot be merged", where=str(folder), expected=f"updates of {self.name} alone", got=got)
        layers = layers_of(adapted)
        adapted.unload()
        return {f"{name}.weight": partial(self.delta, layer) for name, layer in layers.items()}

    def _same(self, model: Any, places: set[str]) -> Any:
        """Return the continued model if its updates have the shape and the places that this spec asks for."""
        config = model.peft_config[AT]
        theirs = {"name": word_of(config)}
        if theirs["name"] == self.name:
            theirs |= self.settings(config) | {"targets": sorted(layers_of(model))}
        for field, value in theirs.items():
            ours = sorted(places) if field == "targets" else getattr(self, field)
            if ours != value:
                expected, got = str(value)[:200], str(ours)[:200]
                raise SpecError("the previous adapter has another", where=field, expected=expected, got=got)
        return model


def wrapped(model: Any, config: Any, *, seed: int) -> Any:
    """Return the peft model of a config, whose start is drawn from the seed."""
    import torch
    from peft import get_peft_model

    with wrapping(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def layers_of(model: Any) -> dict[str, Any]:
    """Return by the path in the base the layers that peft has put around its linear maps."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in model.get_base_model().named_modules() if isinstance(module, BaseTunerLayer)}


def word_of(config: Any) -> str:
    """Return the method of a config of peft, in small letters."""
    return str(getattr(config.peft_type, "value", config.peft_type)).lower()


def named_for_peft(targets: str | tuple[str, ...]) -> str | list[str]:
    """Return targets as peft takes them."""
    return targets if isinstance(targets, str) else list(targets)


def only_linear(maps: Mapping[str, Any], *, word: str) -> None:
    """Refuse maps that are stored transposed, as those of GPT-2 are, for a method that peft has for ``nn.Linear`` alone.

    Raises
    ------
    SpecError
        For the first of them.
    """
    from torch import nn

    for name, each in maps.items():
        if not isinstance(each, nn.Linear):
            what, got, hint = f"{word} has no such map", f"{name}, a {type(each).__name__}", "use lora, lota or full"
            raise SpecError(what, where="targets", expected="maps of torch.nn.Linear", got=got, hint=hint)
