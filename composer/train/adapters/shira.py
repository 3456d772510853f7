"""SHiRA: a few entries of every chosen weight, drawn by chance, move; all others keep their bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from composer.errors import SpecError
from composer.train.adapters.wrapped import AT, Wrapped, named_for_peft, only_linear

if TYPE_CHECKING:
    from torch import Tensor


class Shira(Wrapped):
    """Train ``rank (in + out)`` entries of every map, as many numbers as a LoRA of that rank has, by a mask drawn by chance.

    The entries begin at the base's, so that nothing changes at first; the update may have any rank. The mask is random
    (SHiRA-Rand), is drawn for each map by itself and is a function of the seed; peft by itself gives all maps of a shape the
    same.

    ``targets`` names modules by the end of their path (``q_proj``), or is ``all-linear`` for every linear map but the output.

    References
    ----------
    Bhardwaj et al. 2024, Sparse High Rank Adapters (2406.13175), section 3.
    """

    name: Literal["shira"] = "shira"
    rank: int = Field(default=16, ge=1)

    reference: ClassVar[str] = "Bhardwaj et al. 2024 (2406.13175), section 3"
    summary: ClassVar[str] = "some entries of linear maps, drawn by chance, move; the result lies on top of the base"

    def config(self, maps: Mapping[str, Any], *, seed: int) -> Any:
        """Return the settings as peft takes them, with a mask of our own.

        Raises
        ------
        SpecError
            For maps that are stored transposed, or with fewer entries than are asked for.
        """
        from peft import ShiraConfig

        only_linear(maps, word=self.name)
        for name, each in maps.items():
            n_out, n_in = each.weight.shape
            if self.rank * (n_in + n_out) > n_in * n_out:
                expected = f"at most {n_in * n_out // (n_in + n_out)} for {name}, of {n_out} x {n_in}"
                raise SpecError("more entries than a map has", where="rank", expected=expected, got=self.rank)
        config = ShiraConfig(r=self.rank, task_type="CAUSAL_LM", target_modules=named_for_peft(self.targets))
        config.mask_fn = _masks(seed)
        return config

    def settings(self, config: Any) -> dict[str, Any]:
        """Return by our fields what a config of peft says of them."""
        return {"rank": config.r}

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Write the updates, their places and their settings as peft reads them."""
        from peft.tuners.shira import layer

        super().save(model, tokenizer, folder)
        layer._warn_once_about_module_hooks.cache_clear()  # it would keep every layer, and its base, for ever

    def delta(self, layer: Any) -> Tensor:
        """Return the updates in their places, and zeros elsewhere."""
        import torch

        with torch.no_grad():
            found: Tensor = layer.get_delta_weight(AT).to_dense().double()
        return found


def _masks(seed: int) -> Callable[..., Tensor]:
    """Return what draws the mask of one linear map after another, on the CPU, so that every device has the same."""
    import torch

    dice = torch.Generator().manual_seed(seed)

    def mask(linear: Any, rank: int, **_: Any) -> Tensor:
        found = torch.zeros(linear.weight.numel(), dtype=torch.bool)
        found[torch.randperm(len(found), generator=dice)[: rank * sum(linear.weight.shape)]] = True
        return found.view(linear.weight.shape).to(linear.weight.device)

    return mask
