"""LoTA: the entries of a mask move, a small share of every matrix, and all others keep their bits.

What moves lies in one flat float32 parameter per matrix, which the optimiser, the clipping and the checkpoints see in the
matrix's place. So there are moments for kept entries only, and neither decay nor momentum can touch any other. A matrix still
gets its whole gradient, of which a hook takes what is kept and lets go of the rest before the next matrix has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from composer.errors import SpecError
from composer.train.adapters import Adapter
from composer.train.sparse.mask import Mask, Scope, maskable, shapes_of
from composer.train.sparse.vector import SparseDelta

if TYPE_CHECKING:
    from torch import Tensor

MASK, DELTA = "mask.safetensors", "delta.safetensors"
AT = "lota"  # the name of the kept entries in the model that holds them


class Lota(Adapter):
    """Train the share of entries that moves furthest in a short calibration, in the matrices of the layers.

    ``sparsity`` is the share of entries that stay as they are, counted over all matrices or in each (``scope``); ``targets``
    names matrices as LoRA's do. The mask is made before by ``calibration_steps`` of full training, whose weights are thrown
    away. On top of a trained artifact the mask must be disjoint from those of before (LoTTO), whose entries keep their values.

    References
    ----------
    Panda et al. 2024, Lottery Ticket Adaptation (2406.16797): mask calibration, mask extraction, sparse adaptation; LoTTO.
    """

    name: Literal["lota"] = "lota"
    sparsity: float = Field(default=0.9, ge=0, lt=1)
    scope: Scope = "global"
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    calibration_steps: int = Field(default=20, ge=1)

    where: ClassVar[str] = "adapter"
    needs_base: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("mask",)
    exchanges: ClassVar[bool] = True
    reference: ClassVar[str] = "Panda et al. 2024 (2406.16797), LoTA and LoTTO"
    summary: ClassVar[str] = (
        "the entries of a mask move, those that moved furthest in a calibration; the others keep their bits"
    )

    def check(self, domains: Sequence[str], *, n_phases: int = 1) -> None:  # noqa: ARG002
        """Refuse more phases than there are entries for: every mask takes its share of all, and none is taken twice."""
        if n_phases * (1 - self.sparsity) > 1 + 1e-9:
            hint = "every phase keeps a share of its own: raise the sparsity"
            expected = f"at least {1 - 1 / n_phases:.4g} for {n_phases} phases"
            raise SpecError("masks of all phases do not fit", where="sparsity", expected=expected, got=self.sparsity, hint=hint)

    def attach(
        self, model: Any, *, previous: Path | None, seed: int, domains: Sequence[str] = (),  # noqa: ARG002
        given: Mapping[str, Path] = MappingProxyType({}),
    ) -> Any:  # fmt: skip
        """Return the model, in which the kept entries of the mask alone are to move.

        Without a mask of its own an artifact goes on with the last one that it was trained with.
        """
        from composer.train.sparse.entries import Kept

        weights, mask = maskable(model, self.targets), self._mask(given, previous)
        mask.check(shapes_of(weights), where="mask")
        before = None if previous is None else self._before(weights, mask, previous, anew="mask" in given)
        model.requires_grad_(False)
        model.add_module(AT, Kept(weights, mask, before))
        return model

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:  # noqa: ARG002
        """Write the values of all kept entries, with those of earlier masks, and the mask of this training."""
        kept = _kept(model)
        kept.vector().save(folder / self.where / DELTA)
        kept.mask.save(folder / self.where / MASK)

    def apply(self, network: Any, folder: Path) -> Any:
        """Return the base with the trained values written over its own."""
        SparseDelta.load(folder / DELTA).apply(dict(network.named_parameters()))
        return network

    def deltas(self, network: Any, folder: Path) -> Mapping[str, Callable[[], Tensor]]:
        """Return what gives the trained values less the base's, and zeros elsewhere."""
        delta, weights = SparseDelta.load(folder / DELTA), dict(network.named_parameters())
        delta.check(weights)
        return {name: partial(delta.dense_difference, name, weights[name]) for name in delta.values}

    def optimising(self, model: Any) -> AbstractContextManager[None]:
        """Return a block within which the kept entries alone need a gradient."""
        alone: AbstractContextManager[None] = _kept(model).alone()
        return alone

    def after_backward(self, model: Any) -> None:
        """Bring the gradients of several processes together."""
        _kept(model).exchange()

    def after_step(self, model: Any) -> None:
        """Write the kept entries into their matrices."""
        _kept(model).scatter()

    def state(self, model: Any) -> dict[str, Tensor]:
        """Return the kept entries of every matrix."""
        return {f"{AT}.{name}": parameter for name, parameter in _kept(model).named_parameters()}

    def _before(self, weights: Mapping[str, Any], mask: Mask, previous: Path, *, anew: bool) -> SparseDelta:
        """Put the previous artifact on the weights and return it."""
        before = SparseDelta.load(previous / self.where / DELTA)
        before.mask.check(shapes_of(weights), where="the previous adapter")
        before.apply(weights)
        if anew and (n := before.mask.intersection(mask).n_kept):
            hint = "make the mask from the previous artifact on"
            raise SpecError("the mask falls on entries of an earlier one", where="mask", got=f"{n} entries", hint=hint)
        return before

    def _mask(self, given: Mapping[str, Path], previous: Path | None) -> Mask:
        if "mask" in given:
            return Mask.load(given["mask"] / MASK)
        if previous is not None:
            return Mask.load(previous / self.where / MASK)
        hint = "a recipe makes it by itself; composer.train.calibrate does it by hand"
        raise SpecError("no mask", where="given", expected="the folder of a mask", hint=hint)


def _kept(model: Any) -> Any:
    return model.get_submodule(AT)
