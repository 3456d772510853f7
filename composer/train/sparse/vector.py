"""Sparse vectors: what the kept entries of a mask came to be.

The trained values themselves are stored and written over the base's, for floating-point addition and subtraction do not undo
one another. What stood there before is handed back, so that the base comes back to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from composer.errors import ModelError
from composer.train.sparse.mask import Mask
from composer.train.sparse.stored import AGAIN, packed, places_of, read, size, write

if TYPE_CHECKING:
    from torch import Tensor

KIND = "sparse vector"


@dataclass(frozen=True, eq=False)
class SparseDelta:
    """The float32 ``values`` of a mask's kept entries, tensor by tensor in the order of their places.

    Examples
    --------
    >>> import torch
    >>> base = {"w": torch.tensor([1.0, 2.0, 3.0])}
    >>> delta = SparseDelta(Mask({"w": torch.tensor([1])}, {"w": (3,)}), {"w": torch.tensor([2.5])})
    >>> delta.difference(base)["w"]
    tensor([0.5000])
    >>> was = delta.apply(base)
    >>> base["w"]
    tensor([1.0000, 2.5000, 3.0000])
    >>> delta.remove(base, was)
    >>> base["w"]
    tensor([1., 2., 3.])
    """

    mask: Mask
    values: Mapping[str, Tensor]

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], mask: Mask) -> SparseDelta:
        """Return the values that weights have at the kept entries of a mask.

        Raises
        ------
        ModelError
            Where the mask does not fit the weights.
        """
        _check(mask, weights)
        return cls(mask, {name: _at(weights[name], places) for name, places in mask.kept.items()})

    def apply(self, weights: Mapping[str, Tensor]) -> SparseDelta:
        """Write the values over those of weights, in place and in their type; return what stood there.

        Raises
        ------
        ModelError
            Where the weights have other names or shapes; more of them may be there.
        """
        import torch

        was = SparseDelta.of(weights, self.mask)
        with torch.no_grad():
            for name, places in self.mask.kept.items():
                weight = weights[name]
                values = self.values[name].to(weight.device, weight.dtype)
                weight.data.view(-1).index_copy_(0, places.to(weight.device), values)
        return was

    def remove(self, weights: Mapping[str, Tensor], was: SparseDelta) -> None:
        """Put back what `apply` found, to the bit."""
        was.mask.check(self.mask.shapes, where="what stood there")
        was.apply(weights)

    def difference(self, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return by how much the values differ from a base's, taken in float32."""
        was = SparseDelta.of(base, self.mask)
        return {name: values - was.values[name] for name, values in self.values.items()}

    def check(self, weights: Mapping[str, Tensor]) -> None:
        """Refuse weights of other names or shapes; more of them may be there.

        Raises
        ------
        ModelError
            For those of another model.
        """
        _check(self.mask, weights)

    def dense_difference(self, name: str, weight: Tensor) -> Tensor:
        """Return by how much one weight's values differ from a base's, in its shape; float64, so that they add up exactly."""
        import torch

        out = torch.zeros(weight.numel(), dtype=torch.float64)
        places = self.mask.kept[name]
        out[places] = self.values[name].double() - _at(weight, places).double()
        return out.view(weight.shape)

    def only(self, mask: Mask) -> SparseDelta:
        """Return the part of it that another mask keeps."""
        import torch

        places = self.mask.intersection(mask)
        inside = {name: torch.isin(own, places.kept[name], assume_unique=True) for name, own in self.mask.kept.items()}
        return SparseDelta(places, {name: self.values[name][each] for name, each in inside.items()})

    def joined(self, other: SparseDelta) -> SparseDelta:
        """Return both as one.

        Raises
        ------
        ModelError
            Where both keep the same entry.
        """
        import torch

        if n := self.mask.intersection(other.mask).n_kept:
            raise ModelError("two sparse vectors of the same entries", got=f"{n} in both")
        kept, values = dict[str, "Tensor"](), dict[str, "Tensor"]()
        for name, own in self.mask.kept.items():
            kept[name], order = torch.cat([own, other.mask.kept[name]]).sort()
            values[name] = torch.cat([self.values[name], other.values[name]])[order]
        return SparseDelta(Mask(kept, self.mask.shapes), values)

    @property
    def nbytes(self) -> int:
        """How many bytes its places and values take on disk."""
        return sum(each.nbytes for each in self._tensors().values())

    def save(self, path: Path) -> None:
        """Write it as safetensors, exactly."""
        write(path, KIND, self._tensors(), self.mask.shapes)

    @classmethod
    def load(cls, path: Path) -> SparseDelta:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            Where there is none, or one that was cut short.
        """
        import torch

        tensors, shapes = read(path, KIND)
        places = places_of(tensors, shapes, where=str(path))
        values = {name: tensors.get(f"{name}/values") for name in shapes}
        for name, each in values.items():
            if each is None or each.shape != places[name].shape or each.dtype != torch.float32:
                expected = f"{len(places[name])} of float32"
                raise ModelError("no values", where=f"{path}, {name}", expected=expected, hint=AGAIN)
        return cls(Mask(places, shapes), values)  # type: ignore[arg-type]

    def _tensors(self) -> dict[str, Tensor]:
        out = {f"{name}/places": packed(each, size(self.mask.shapes[name])) for name, each in self.mask.kept.items()}
        return out | {f"{name}/values": values for name, values in self.values.items()}


def _check(mask: Mask, weights: Mapping[str, Tensor]) -> None:
    mask.check({name: tuple(weights[name].shape) for name in mask.shapes if name in weights}, where="sparse vector")


def _at(weight: Tensor, places: Tensor) -> Tensor:
    return weight.detach().reshape(-1).index_select(0, places.to(weight.device)).float().cpu()
