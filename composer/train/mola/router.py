"""Routers: a linear map in front of every decoder block that reads the prompt and says whose expert its row wants.

A router sees prompt tokens only, in training as in use, or it would read the answer in one and miss it in the other. It reads
states and does not shape them: its loss stops at the state, or experts would learn to write their own name into it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from composer.train.layout import IGNORED
from composer.train.mola.bank import BASE

Pool = Literal["mean", "last"]
Decision = Literal["shared", "vote", "per_layer"]


@dataclass(frozen=True)
class Prompts:
    """Where the prompts of a batch stand: one for every row, or for every row of a bin.

    ``places`` int64 (tokens,) are the flat places of all their tokens, and ``owner`` (tokens,), ascending, says whose each is;
    ``last`` (prompts,) are the places of the last ones. ``row`` (prompts,) is the tensor row of each, ``weight`` float32
    (prompts,) how many tokens are trained on behind it.
    """

    places: Tensor
    owner: Tensor
    last: Tensor
    row: Tensor
    weight: Tensor

    def pooled(self, states: Tensor, pool: Pool) -> Tensor:
        """Return of states (rows, tokens, hidden) one for each prompt, float32 (prompts, hidden), without a gradient."""
        flat = states.detach().flatten(0, 1)
        if pool == "last":
            return flat[self.last].float()
        lengths = self.owner.bincount(minlength=len(self.last))
        # not index_add_: on a GPU it adds in another order every time
        return torch.segment_reduce(flat[self.places].float(), "mean", lengths=lengths, unsafe=True)


def prompts_of(batch: Mapping[str, Tensor]) -> Prompts:
    """Return the prompts of a batch of :mod:`composer.train.layout`, or of one that has no labels: all that is no padding.

    A prompt is what stands before the first trained token; the first token of a row, which nothing predicts, always is. In
    bins every row has its own, told apart by the positions.
    """
    shape, device, labels = batch["input_ids"].shape, batch["input_ids"].device, batch.get("labels")
    trained, begins = (torch.zeros(shape, dtype=torch.bool, device=device) for _ in range(2))
    real, mask = ~trained, batch.get("attention_mask")
    real = real if mask is None else mask != 0
    if labels is not None:
        trained = (labels != IGNORED) & (real.cumsum(1) > 1)
    begins[:, 0] = True
    binned = labels is not None and mask is None and batch.get("position_ids") is not None
    if binned:
        begins |= batch["position_ids"] == 0
    owner, starts = begins.flatten().cumsum(0) - 1, begins.flatten().nonzero().squeeze(1)
    seen = trained.flatten().cumsum(0)
    before = seen - (seen - trained.flatten().long())[starts][owner]  # trained tokens of the same row up to here
    places = ((before == 0) & real.flatten()).nonzero().squeeze(1)
    last = torch.zeros(len(starts), dtype=torch.int64, device=device).scatter_reduce_(0, owner[places], places, "amax")
    weight = owner[trained.flatten()].bincount(minlength=len(starts))
    kept = weight > 0 if binned else torch.ones_like(weight, dtype=torch.bool)  # padding of a bin looks like rows
    places = places[kept[owner[places]]]
    number = kept.cumsum(0) - 1
    return Prompts(places, number[owner[places]], last[kept], starts[kept] // shape[1], weight[kept].float())


class Routers(nn.Module):
    """Linear maps from a pooled state to a logit for every expert, one in front of each block; they begin at zero.

    ``weight`` is float32 (blocks, N, hidden). ``closed`` float32 (N,) is 0, or -inf for an expert that must not be chosen yet.
    """

    closed: Tensor

    def __init__(self, n_blocks: int, n_experts: int, n_hidden: int, *, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_blocks, n_experts, n_hidden, device=device))
        self.register_buffer("closed", torch.zeros(n_experts, device=device))

    def logits(self, pooled: Tensor, block: int) -> Tensor:
        """Return the logits (prompts, N) of one block's router for pooled states (prompts, hidden).

        ``R_l (h / rms(h))``: however small or large the states of a block are, its router learns at the same pace.
        """
        size = pooled.shape[-1:]
        return nn.functional.linear(nn.functional.rms_norm(pooled, size, eps=1e-12), self.weight[block]) + self.closed

    def widened(self, n: int) -> Routers:
        """Return routers for ``n`` more experts, which are closed: old logits and probabilities are what they were."""
        blocks, experts, hidden = self.weight.shape
        out = Routers(blocks, experts + n, hidden, device=self.weight.device)
        with torch.no_grad():
            out.weight[:, :experts] = self.weight
            out.closed[:experts] = self.closed
            out.closed[experts:] = -math.inf
        return out


def classification_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over routers and prompts of the cross-entropy with the right expert, in nats.

    ``L_cls = mean_l sum_i n_i H(softmax(R_l h_i), d_i) / sum_i n_i``: a prompt counts by its trained tokens ``n_i``, as in the
    loss of the answers, so that it is the same however a step is cut into micro-batches. Logits are (routers, prompts, N),
    labels int64 and weights float32 (prompts,).

    References
    ----------
    Feng et al. 2024, Mixture-of-LoRAs (2403.03432); the mean over routers and the weights are ours.

    Examples
    --------
    >>> round(float(classification_loss(torch.zeros(3, 2, 8), torch.tensor([0, 5]), torch.ones(2))), 6)
    2.079442
    """
    own = logits.log_softmax(-1).gather(-1, labels.expand(len(logits), -1)[..., None]).squeeze(-1)
    return -(own * weight).sum(-1).mean() / weight.sum().clamp(min=1)


@dataclass(frozen=True)
class Routing:
    """What was decided: ``experts`` int64 (blocks, rows), -1 for the base, and ``log_probs`` float32 (blocks, rows, N)."""

    experts: Tensor
    log_probs: Tensor

    def of(self, rows: Tensor | list[int]) -> Routing:
        """Return what was decided for some of the rows."""
        return Routing(self.experts[:, rows], self.log_probs[:, rows])


def decide(logits: Tensor, *, threshold: float, joined: bool = False) -> Routing:
    """Return the most likely expert by each router, for logits (routers, rows, N).

    ``joined`` routers have one voice, ``softmax(mean_l log p_l)``. Where the greatest probability is below the threshold the
    base answers alone. Of equal ones the first is taken.

    Examples
    --------
    >>> decide(torch.tensor([[[2.0, 0.0], [0.0, 0.1]]]), threshold=0.6).experts.tolist()
    [[0, -1]]
    """
    log_probs = logits.float().log_softmax(-1)
    if joined:
        log_probs = log_probs.mean(0, keepdim=True).log_softmax(-1)
    best, experts = log_probs.max(-1)
    return Routing(experts.where(best.exp() >= threshold, BASE), log_probs)
