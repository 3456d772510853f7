"""Processes that train together: who is the first, what they agree on, and weights of which each holds a part.

torchrun says in the environment which process this is (``RANK``); whoever is not told trains alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from composer.spec import seed_of
from composer.train.layout import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


def rank() -> int | None:
    """Return which of the processes that train together this is, or None where it trains alone."""
    return int(os.environ["RANK"]) if "RANK" in os.environ else None


def first() -> bool:
    """Return whether this process is the one that writes."""
    return not rank()


def own_seed(seed: int) -> int:
    """Return the Trainer's seed in this process: each draws its own dropout."""
    number = rank()
    return seed_of(seed, "trainer", number) if number else seed_of(seed, "trainer")


def together() -> bool:
    """Return whether several processes are joined."""
    from torch import distributed

    return bool(distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)


def agreed(number: int, *, device: Any) -> int:
    """Return the first process's number in every process."""
    import torch

    told = torch.tensor(number, device=device)
    if together():
        torch.distributed.broadcast(told, src=0)
    return int(told)


def of_every(value: Tensor, *, device: Any) -> list[Tensor]:
    """Return a tensor of every process, all of one shape, in their order."""
    import torch

    if not together():
        return [value]
    mine = value.to(device)
    found = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(found, mine)
    return [each.to(value.device) for each in found]


def summed(value: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes, in every one of them."""
    import torch

    total = value.clone()
    if together():
        torch.distributed.all_reduce(total)
    return total


def evened(parts: Sequence[Mapping[str, Tensor]], *, device: Any) -> Iterator[tuple[Mapping[str, Tensor], bool]]:
    """Yield a process's micro-batches and whether each is its last, as many in every process.

    Processes exchange gradients, and sharded ones weights, in every pass, so that one with fewer micro-batches goes through the
    motions with one that counts nothing.
    """
    import torch

    most = torch.tensor(len(parts), device=device)
    if together():
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
    blank = {**parts[-1], "labels": torch.full_like(parts[-1]["labels"], IGNORED)}
    for i in range(n := int(most)):
        yield parts[i] if i < len(parts) else blank, i == n - 1


def exchange(network: Any, *, last: bool) -> AbstractContextManager[Any]:
    """Return a block in which gradients are exchanged after the last micro-batch only, where every process holds them whole."""
    return network.no_sync() if not last and hasattr(network, "no_sync") else nullcontext()


def share_out(network: Any, *, device: str) -> None:
    """Let every process hold a part of each parameter, its gradient and its moments: FSDP2, by decoder layer and the rest.

    A layer's parameters are gathered for its passes only. Parameters move to the device layer by layer.

    References
    ----------
    Zhao et al. 2023, PyTorch FSDP (2304.11277), section 3; ``torch.distributed.fsdp.fully_shard``.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    layers = set(network._no_split_modules or ())
    for module in list(network.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(network, mesh=mesh)


def is_shared_out(network: Any) -> bool:
    """Return whether each process holds a part of the network."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(network, FSDPModule)


def whole(value: Tensor) -> Tensor:
    """Return a tensor as it is; one of which every process holds a part, whole on the first one's CPU and empty elsewhere."""
    if not hasattr(value, "full_tensor"):
        return value
    full: Tensor = value.full_tensor().detach()
    return full.cpu() if first() else full.new_empty(0, device="cpu")


def gather(network: Any) -> None:
    """Turn a network that was shared out back into a plain one, on the CPU of the first process; elsewhere it is left empty.

    Every process calls it. Afterwards the network may be saved, and no longer trained.
    """
    if not is_shared_out(network):
        return
    import torch
    from torch.distributed.fsdp import FSDPModule

    made: dict[Any, Any] = {}  # tied parameters stay tied
    for module in list(network.modules()):
        if isinstance(module, FSDPModule):
            module.reshard()
            module.__class__ = type(module).__bases__[1]  # fully_shard put FSDPModule before the module's own class
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter not in made:
                made[parameter] = torch.nn.Parameter(whole(parameter))
            setattr(module, name, made[parameter])
