"""A network with a bank of LoRAs and routers in it, which routes every new prompt by itself.

The routers hang in front of the blocks as hooks. A pass takes the experts that it was told to (training, where the domain is
known), those that were chosen when its key-value cache began, or else those that the routers choose as the prompt goes by.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from composer.errors import FaultError
from composer.train.mola.bank import Bank, blocks_of
from composer.train.mola.router import Decision, Pool, Prompts, Routers, Routing, decide, prompts_of

_INPUTS = ("input_ids", "inputs_embeds", "attention_mask", "position_ids")
_CACHES = ("past_key_values", "cache")  # renamed in transformers 5.24


class _Decided(Exception):  # noqa: N818  no error: what was wanted of a pass is known
    pass


class Mixture(nn.Module):
    """The routers of a network and what they decided last; it is the network's ``mixture``.

    Parameters
    ----------
    network
        The network that the bank was put into.
    bank
        Its experts.
    routers
        One in front of each block; absent where there is one expert, which then always answers.
    decision
        ``shared``: the first router speaks for all blocks. ``vote``: all have one voice, after a pass of the base alone.
        ``per_layer``: each for its own block.
    pool
        What a router reads of a prompt: the mean of its states or the last.
    threshold
        A probability below which the base answers alone.
    """

    def __init__(
        self, network: Any, bank: Bank, routers: Routers | None, *, decision: Decision, pool: Pool, threshold: float
    ) -> None:  # fmt: skip
        super().__init__()
        self.routers, self.bank = routers, bank
        self.decision, self.pool, self.threshold = decision, pool, threshold
        self.routing: Routing | None = None
        self.prompts: Prompts | None = None
        self.pooled: list[Tensor] = []
        self.number = torch.arange(len(bank.names), device=network.device)  # of the expert of each domain of a batch
        self._told = self._only_routing = False
        self._reading: Prompts | None = None
        self._choosing = False
        self._network = (network,)  # in a tuple, so that torch does not take it for a part of this one
        self._signature = inspect.signature(network.forward)
        network.register_forward_pre_hook(self._begin, with_kwargs=True)
        for i, block in enumerate(blocks_of(network)):
            block.register_forward_pre_hook(self._reader(i), with_kwargs=True)
        network.mixture = self

    def count(self, domains: Sequence[str]) -> None:
        """Let the domains of coming batches be counted so, and let the routers choose the experts of these."""
        self.number = torch.tensor([self.bank.names.index(domain) for domain in domains], device=self._network[0].device)
        if self.routers is not None:
            self.routers.closed[self.number] = 0.0

    def take(self, experts: Tensor, *, prompts: Prompts | None = None) -> None:
        """Let the next pass take these experts, int64 (rows,) or (blocks, rows); with prompts it keeps their pooled states."""
        self._told, self._reading, self._choosing = True, prompts, False
        if prompts is not None:
            self.prompts, self.pooled = prompts, []
        self._take(experts)

    def read_base(self, batch: Mapping[str, Any], prompts: Prompts) -> None:
        """Keep the pooled states of prompts as the base alone has them."""
        self.bank.take(None)
        self._told, self._choosing, self._reading, self.prompts, self.pooled = True, False, prompts, prompts, []
        given = {name: batch[name] for name in _INPUTS if batch.get(name) is not None}
        with torch.no_grad():
            self._network[0](**given, use_cache=False)
        self._reading = None

    def logits(self) -> Tensor:
        """Return the routers' logits (blocks, prompts, N) for the pooled states that were kept."""
        assert self.routers is not None
        return torch.stack([self.routers.logits(pooled, i) for i, pooled in enumerate(self.pooled)])

    def route(self, prompts: Sequence[Sequence[int]]) -> Routing:
        """Return whom the routers choose for prompts of token ids; no more of the network is computed than that takes."""
        width, device = max(map(len, prompts)), self._network[0].device
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=device)
        mask = torch.arange(width, device=device) < torch.tensor([len(prompt) for prompt in prompts], device=device)[:, None]
        self._only_routing, self._told = True, False
        try:
            with torch.no_grad():
                self._network[0](input_ids=ids, attention_mask=mask.long(), use_cache=False)
        except _Decided:
            pass
        finally:
            self._only_routing = False
        assert self.routing is not None
        return self.routing

    def _take(self, experts: Tensor) -> None:
        alike = experts.dim() == 1 or bool((experts == experts[:1]).all())
        if alike:
            self.bank.take(experts if experts.dim() == 1 else experts[0])
        else:
            for i, own in enumerate(experts):
                self.bank.take(own, block=i)

    def _begin(self, network: Any, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        if self._told:
            self._told = False
            return
        given = self._signature.bind_partial(*args, **kwargs).arguments
        given |= given.get("kwargs", {})
        like = given["input_ids"] if given.get("input_ids") is not None else given["inputs_embeds"][..., 0]
        if any(given.get(name) is not None and given[name].get_seq_length() for name in _CACHES):
            kept = 0 if self.routing is None else self.routing.experts.shape[1]
            if kept != len(like):
                raise FaultError("the cache is of other rows than were routed", expected=f"{kept} rows", got=f"{len(like)}")
            return
        self._start(like, given)

    def _start(self, like: Tensor, given: Mapping[str, Any]) -> None:
        rows, blocks, n = len(like), self.bank.n_blocks, len(self.bank.names)
        self._reading, self._choosing, self.pooled = None, False, []
        if self.routers is None:
            self.routing = Routing(like.new_zeros(blocks, rows).long(), torch.zeros(blocks, rows, 1, device=like.device))
            self._take(self.routing.experts)
            if self._only_routing:
                raise _Decided
            return
        mask = given.get("attention_mask")
        if mask is not None and mask.dim() != 2:
            raise FaultError("cannot tell a prompt from padding", expected="a mask (rows, tokens)", got=str(tuple(mask.shape)))
        told = {"input_ids": like, "labels": given.get("labels"), "attention_mask": mask}
        prompts = prompts_of({name: value for name, value in told.items() if value is not None})
        if self.decision == "vote":
            only, self._only_routing = self._only_routing, False
            self.read_base(given, prompts)
            self._only_routing = only
            found = decide(self.logits(), threshold=self.threshold, joined=True)
            self._settle(found, blocks)
            return
        self.routing = Routing(like.new_zeros(blocks, rows).long(), torch.zeros(blocks, rows, n, device=like.device))
        self._reading, self._choosing = prompts, True
        self.bank.take(None)

    def _settle(self, found: Routing, blocks: int) -> None:
        """Let one decision hold in all blocks."""
        self.routing = Routing(found.experts.expand(blocks, -1), found.log_probs.expand(blocks, -1, -1))
        self._take(self.routing.experts)
        if self._only_routing:
            raise _Decided

    def _reader(self, block: int) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:  # noqa: ARG001
            if self._reading is None:
                return
            states = args[0] if args else kwargs["hidden_states"]
            pooled = self._reading.pooled(states, self.pool)
            if self._choosing:
                self._choose(pooled, block)
            else:
                self.pooled.append(pooled)

        return hook

    def _choose(self, pooled: Tensor, block: int) -> None:
        assert self.routers is not None
        assert self.routing is not None
        found = decide(self.routers.logits(pooled, block)[None], threshold=self.threshold)
        if self.decision == "shared":
            self._reading, self._choosing = None, False
            self._settle(found, self.bank.n_blocks)
            return
        self.routing.experts[block], self.routing.log_probs[block] = found.experts[0], found.log_probs[0].detach()
        self.bank.take(found.experts[0], block=block)
        if block == self.bank.n_blocks - 1:
            self._reading, self._choosing = None, False
            if self._only_routing:
                raise _Decided
