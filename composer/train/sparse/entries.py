"""The kept entries of a mask as parameters of their own. Import this module only to train; it loads torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from composer.train import shards
from composer.train.sparse.mask import Mask
from composer.train.sparse.vector import SparseDelta


class Entries(nn.Module):
    """The kept entries of one weight: ``values``, float32 of shape (kept,), and their ``places`` in the flat weight.

    The weight gets its gradient as ever; as soon as all of a backward pass's is there, the kept entries' part of it is added to
    that of ``values``, in float32, and the weight's is let go.
    """

    places: Tensor

    def __init__(self, weight: nn.Parameter, places: Tensor) -> None:
        super().__init__()
        self.register_buffer("places", places.to(weight.device), persistent=False)
        self.values = nn.Parameter(weight.detach().reshape(-1).index_select(0, self.places).float())
        self._weight = [weight]  # in a list, so that it is not a parameter of this module as well
        weight.requires_grad_(True)
        weight.register_post_accumulate_grad_hook(self._take)  # type: ignore[no-untyped-call]

    @property
    def weight(self) -> nn.Parameter:
        """The weight that the entries are of."""
        return self._weight[0]

    def _take(self, weight: Tensor) -> None:
        assert weight.grad is not None
        own = weight.grad.reshape(-1).index_select(0, self.places).float()
        self.values.grad = own if self.values.grad is None else self.values.grad.add_(own)
        weight.grad = None

    def exchange(self) -> None:
        """Make the gradient the mean of those that the processes have."""
        if self.values.grad is None:
            self.values.grad = torch.zeros_like(self.values)
        torch.distributed.all_reduce(self.values.grad)
        self.values.grad /= torch.distributed.get_world_size()

    @torch.no_grad()
    def scatter(self) -> None:
        """Write the values into the weight."""
        self.weight.data.view(-1).index_copy_(0, self.places, self.values.to(self.weight.dtype))


class Kept(nn.Module):
    """The kept entries of all weights of a mask, and the values that others have from ``before``, which stay as they are.

    Of weights of which nothing is kept there are no entries, and they need no gradient.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], mask: Mask, before: SparseDelta | None) -> None:
        super().__init__()
        self.mask, self.earlier = mask, None if before is None else before.only(before.mask.without(mask))
        own = {name: Entries(weights[name], places) for name, places in mask.kept.items() if len(places)}
        self.entries = nn.ModuleDict({name.replace(".", "/"): each for name, each in own.items()})
        if before is not None:
            self._go_on(before)

    @torch.no_grad()
    def _go_on(self, before: SparseDelta) -> None:
        """Begin with the values from before, where they are of this mask: a weight may hold fewer bits of them."""
        for key, each in zip(self.entries, self, strict=True):
            name = key.replace("/", ".")
            places, was = self.mask.kept[name], before.mask.kept[name]
            own = torch.isin(was, places, assume_unique=True)
            there = torch.isin(places, was, assume_unique=True)
            each.values[there.to(each.values.device)] = before.values[name][own].to(each.values.device)

    def __iter__(self) -> Iterator[Entries]:
        for each in self.entries.values():
            assert isinstance(each, Entries)
            yield each

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Return a block in which the values alone need a gradient, and not the weights that they are entries of."""
        for each in self:
            each.weight.requires_grad_(False)
        try:
            yield
        finally:
            for each in self:
                each.weight.requires_grad_(True)

    def exchange(self) -> None:
        """Bring the gradients of several processes together: of kept entries only, so that little travels."""
        if shards.together():
            for each in self:
                each.exchange()

    def scatter(self) -> None:
        """Write all values into their weights."""
        for each in self:
            each.scatter()

    def vector(self) -> SparseDelta:
        """Return what the entries of this mask and of the earlier ones are now."""
        values = {name: torch.zeros(0) for name in self.mask.kept}
        values |= {key.replace("/", "."): each.values.detach().cpu() for key, each in zip(self.entries, self, strict=True)}
        own = SparseDelta(self.mask, values)
        return own if self.earlier is None else self.earlier.joined(own)
