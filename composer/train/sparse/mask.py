"""Masks: which entries of a model's matrices training may move. A kept entry is True, is trained; all others are frozen.

The mask of a lottery ticket holds the entries that moved furthest while the model was trained fully for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from composer.errors import FaultError, ModelError, SpecError
from composer.train.model import linear_maps
from composer.train.sparse.stored import Shapes, packed, places_of, read, size, write
from composer.train.targets import chosen

if TYPE_CHECKING:
    from torch import Tensor

KIND = "mask"
Scope = Literal["global", "tensor"]


@dataclass(frozen=True, eq=False)
class Mask:
    """The kept entries of named tensors: ``kept`` has their int64 places in ascending order, ``shapes`` the tensors' shapes.

    Examples
    --------
    >>> import torch
    >>> a, b = (Mask({"w": torch.tensor(places)}, {"w": (2, 3)}) for places in ([0, 4], [4, 5]))
    >>> a.union(b).kept["w"].tolist(), a.intersection(b).kept["w"].tolist(), a.density
    ([0, 4, 5], [4], 0.3333333333333333)
    >>> a.overlap(b)
    0.3333333333333333
    """

    kept: Mapping[str, Tensor]
    shapes: Shapes

    @property
    def n_kept(self) -> int:
        """How many entries are kept."""
        return sum(len(places) for places in self.kept.values())

    @property
    def n_entries(self) -> int:
        """How many entries there are."""
        return sum(map(size, self.shapes.values()))

    @property
    def density(self) -> float:
        """The share of entries that are kept."""
        return self.n_kept / self.n_entries

    def boolean(self, name: str) -> Tensor:
        """Return one tensor's mask in its shape, True where an entry is kept."""
        import torch

        out = torch.zeros(size(self.shapes[name]), dtype=torch.bool)
        out[self.kept[name]] = True
        return out.view(self.shapes[name])

    def union(self, other: Mask) -> Mask:
        """Return what either keeps."""
        import torch

        other.check(self.shapes, where="union")
        kept = {name: torch.unique(torch.cat([own, other.kept[name]])) for name, own in self.kept.items()}
        return Mask(kept, self.shapes)

    def intersection(self, other: Mask) -> Mask:
        """Return what both keep."""
        return self._split(other, inside=True)

    def without(self, other: Mask) -> Mask:
        """Return what this one keeps and the other does not."""
        return self._split(other, inside=False)

    def _split(self, other: Mask, *, inside: bool) -> Mask:
        import torch

        other.check(self.shapes, where="intersection")
        kept = {
            name: own[torch.isin(own, other.kept[name], assume_unique=True, invert=not inside)]
            for name, own in self.kept.items()
        }
        return Mask(kept, self.shapes)

    def overlap(self, other: Mask) -> float:
        """Return the Jaccard index, what both keep over what either keeps; 0 where neither keeps any."""
        both = self.intersection(other).n_kept
        return both / max(self.n_kept + other.n_kept - both, 1)

    def check(self, shapes: Shapes, *, where: str) -> None:
        """Refuse tensors of other names or shapes than this mask's.

        Raises
        ------
        ModelError
            For a mask of another model, or of other targets.
        """
        if dict(self.shapes) == dict(shapes):
            return
        name = min(name for name in {*self.shapes, *shapes} if self.shapes.get(name) != shapes.get(name))
        expected, got = (f"{name} of shape {each[name]}" if name in each else f"no {name}" for each in (shapes, self.shapes))
        hint = "it was made of another model, or with other targets"
        raise ModelError("a mask that does not fit", where=where, expected=expected, got=got, hint=hint)

    def save(self, path: Path) -> None:
        """Write the mask as safetensors, every tensor's places as bits or as numbers, whichever is smaller."""
        tensors = {f"{name}/places": packed(places, size(self.shapes[name])) for name, places in self.kept.items()}
        write(path, KIND, tensors, self.shapes)

    @classmethod
    def load(cls, path: Path) -> Mask:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            Where there is no mask, or one that was cut short or keeps entries in the other sense.
        """
        tensors, shapes = read(path, KIND)
        return cls(places_of(tensors, shapes, where=str(path)), shapes)


def maskable(network: Any, targets: str | Sequence[str] = "all-linear") -> dict[str, Any]:
    """Return by name the weights that a mask may fall on: those of the linear maps of the layers, or of some of them.

    Embeddings, the output, norms and biases are never among them, nor is a weight that is tied to an embedding.

    Raises
    ------
    SpecError
        For a target that is none of these maps.
    ModelError
        For a model without such maps.
    """
    linear = {name: map_ for name, map_ in linear_maps(network).items() if any(map(str.isdigit, name.split(".")))}
    ends = (network.get_input_embeddings(), network.get_output_embeddings())
    outer = {id(end.weight) for end in ends if end is not None}
    own = {id(linear[name].weight) for name in chosen(linear, targets)} - outer
    found = {name: parameter for name, parameter in network.named_parameters() if id(parameter) in own}
    if not found:
        raise ModelError("no linear maps in its layers", where="base_model.path", got=type(network).__name__)
    return found


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of named tensors."""
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def to_keep(n: int, sparsity: float) -> int:
    """Return K = round((1 - s) n), at least 1: how many of n entries are to be kept.

    Examples
    --------
    >>> to_keep(10, 0.9), to_keep(10_000, 0.99), to_keep(10, 0.999)
    (1, 100, 1)
    """
    return max(round((1 - sparsity) * n), 1)


def extract_mask(delta: Mapping[str, Tensor], sparsity: float, scope: Scope = "global", forbid: Mask | None = None) -> Mask:
    """Return the mask of the K entries that moved furthest, K = round((1 - s) n) of all n entries, or of each tensor's.

    Only entries that moved are kept, so that there may be fewer than K; of equal ones the first are kept.

    Parameters
    ----------
    delta
        By how much entries moved, of any shapes; compared as float32.
    sparsity
        The share s of entries that stay as they are, in [0, 1).
    scope
        Whether K counts, and the furthest are looked for among, all entries or those of each tensor.
    forbid
        Entries that must not be kept. K is a share of all n nevertheless.

    Raises
    ------
    SpecError
        For another sparsity, or where fewer than K entries are not forbidden.
    FaultError
        Where a delta is not finite.

    References
    ----------
    Panda et al. 2024, Lottery Ticket Adaptation (2406.16797), mask extraction.

    Examples
    --------
    >>> import torch
    >>> moved = {"w": torch.tensor([0.5, -0.1, 0.3, 0, -0.7, 0.2, 0.05, -0.4, 0.01, 0.6])}
    >>> extract_mask(moved, 0.7).kept["w"].tolist()
    [0, 4, 9]
    """
    if not 0 <= sparsity < 1:
        raise SpecError("no sparsity", where="sparsity", expected="a share in [0, 1)", got=sparsity)
    shapes = shapes_of(delta)
    if forbid is not None:
        forbid.check(shapes, where="forbid")
    kept: dict[str, Tensor] = {}
    for names in [list(delta)] if scope == "global" else [[name] for name in delta]:
        where = "sparsity" if scope == "global" else f"sparsity, {names[0]}"
        _check_free(sum(size(shapes[name]) for name in names), sparsity, names, forbid, where=where)
        bits = {name: _bits(delta[name], name, forbid) for name in names}
        kept |= _largest(bits, to_keep(sum(map(len, bits.values())), sparsity))
    return Mask(kept, shapes)


def _check_free(n: int, sparsity: float, names: Sequence[str], forbid: Mask | None, *, where: str) -> None:
    taken = 0 if forbid is None else sum(len(forbid.kept[name]) for name in names)
    if (k := to_keep(n, sparsity)) > n - taken:
        hint = "raise the sparsity: the shares that all masks keep must add up to at most 1"
        raise SpecError("earlier masks leave too little", where=where, expected=f"{k} of {n} free", got=n - taken, hint=hint)


def _bits(delta: Tensor, name: str, forbid: Mask | None) -> Tensor:
    """Return magnitudes as int32: the bits of a float that is not negative are ordered as it is."""
    import torch

    size = delta.detach().reshape(-1).float().abs()
    if not bool(size.isfinite().all()):
        raise FaultError("weights moved by what is no number", where=name, hint="lower learning_rate")
    if forbid is not None:
        size.index_fill_(0, forbid.kept[name].to(size.device), 0)
    return size.view(torch.int32)


def _largest(bits: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """Return the places of the k largest that are not zero."""
    import torch

    k = min(k, sum(int(each.count_nonzero()) for each in bits.values()))
    if k == 0:
        return {name: torch.zeros(0, dtype=torch.long) for name in bits}
    least, left = _kth(bits.values(), k)
    out: dict[str, Tensor] = {}
    for name, each in bits.items():
        equal = (each == least).nonzero().squeeze(1)[:left]
        left -= len(equal)
        out[name] = torch.cat([(each > least).nonzero().squeeze(1), equal]).sort().values.cpu()
    return out


def _kth(bits: Iterable[Tensor], k: int) -> tuple[int, int]:
    """Return the k-th largest of all values, and the how many-th of those equal to it that is.

    Found by counting upper and then lower halves, so that the values of a large model are never sorted or joined.
    """
    import torch

    every = list(bits)
    upper, k = _bucket(torch.stack([torch.bincount(each >> 16, minlength=1 << 15) for each in every]).sum(0), k)
    inside = [each[each >> 16 == upper] & 0xFFFF for each in every]
    lower, k = _bucket(torch.stack([torch.bincount(each, minlength=1 << 16) for each in inside]).sum(0), k)
    return upper << 16 | lower, k


def _bucket(counts: Tensor, k: int) -> tuple[int, int]:
    """Return the bucket of the k-th largest, and the how many-th largest of that bucket it is."""
    from_top = counts.flip(0).cumsum(0)
    i = int((from_top >= k).nonzero()[0])
    at = len(counts) - 1 - i
    return at, k - int(from_top[i] - counts[at])
