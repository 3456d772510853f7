"""A frozen linear map with low-rank experts beside it, all of them at work on every token, in shares that a router sets.

Written out, every expert is two thin products and a copy of the output. Here all experts are one map of rank ``experts * rank``
whose middle is weighed block by block: one product down, which the router's scores are a part of, and one product up. Kept for
the way back are the input, the thin middle and the shares; what a token's experts gave is never there by itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from composer.errors import SpecError


class Sink:
    """Takes the shares of every layer of a model during one forward pass, while it is open.

    What is taken keeps its gradient. A pass that gradient checkpointing makes again finds it closed.
    """

    def __init__(self) -> None:
        self.open = False
        self.taken: dict[str, Tensor] = {}

    def take(self, name: str, shares: Tensor) -> None:
        """Keep a layer's shares, float32 (rows, tokens, experts), if open."""
        if self.open:
            self.taken[name] = shares

    def emptied(self, *, anew: bool) -> dict[str, Tensor]:
        """Return what was taken by layer, and be open for another pass or closed."""
        taken, self.taken, self.open = self.taken, {}, anew
        return taken


class Experts(nn.Module):
    """Add to a frozen linear map ``W0`` the low-rank maps of its experts, weighed for each token by a router.

    ``y = W0 x + (alpha / rank) sum_n w_n(x) B_n A_n dropout(x)`` with ``w(x) = softmax(Wg x)``, the softmax in float32.

    ``A`` (experts * rank, in) and ``Wg`` (experts, in) begin uniform in +-1 / sqrt(in), which is Kaiming's draw for
    ``a = sqrt(5)``; ``B`` (out, experts * rank) begins at zero, so that the output is that of the frozen map. The three are
    float32; products are made in the type of the pass, that of autocast or else of the input. One mask of dropout serves all
    experts, and the router sees the input without it.

    Parameters
    ----------
    base
        ``nn.Linear`` or the ``Conv1D`` of GPT-2, which is frozen here.
    n_experts, rank, alpha, dropout
        How many experts, of which rank, scaled by ``alpha / rank``; the share of an input's entries that experts lose.
    name, sink
        Under which name the shares are handed on, and to whom.

    Raises
    ------
    SpecError
        For a rank above the smaller side of the map.

    References
    ----------
    Dou et al. 2023, LoRAMoE (2312.09979), section 3.2.

    Examples
    --------
    >>> map_, x = nn.Linear(3, 2), torch.ones(1, 4, 3)
    >>> layer = Experts(map_, n_experts=2, rank=1, alpha=2, dropout=0.0)
    >>> torch.equal(layer(x), map_(x))
    True
    >>> {name: tuple(value.shape) for name, value in layer.named_parameters() if value.requires_grad}
    {'A': (2, 3), 'B': (2, 2), 'Wg': (2, 3)}
    """

    def __init__(
        self, base: nn.Module, *, n_experts: int, rank: int, alpha: float, dropout: float, name: str = "",
        sink: Sink | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        n_in, n_out = sides(base)
        if rank > min(n_in, n_out):
            hint = "lower rank, or leave the map out of targets"
            raise SpecError(f"a rank above that of {name or 'the map'}", where="rank", expected=f"at most {min(n_in, n_out)}",
                            got=rank, hint=hint)  # fmt: skip
        self.train(base.training)
        self.base = base.requires_grad_(False)
        self.n_experts, self.rank, self.scale, self.dropout = n_experts, rank, alpha / rank, dropout
        self.name, self.sink = name, sink or Sink()
        own: dict[str, Any] = {"device": next(base.parameters()).device, "dtype": torch.float32}
        self.A = nn.Parameter(torch.empty(n_experts * rank, n_in, **own))
        self.B = nn.Parameter(torch.zeros(n_out, n_experts * rank, **own))
        self.Wg = nn.Parameter(torch.empty(n_experts, n_in, **own))
        for thin in (self.A, self.Wg):
            nn.init.kaiming_uniform_(thin, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, of shape (..., out) for an input of shape (..., in)."""
        kind = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        kept = None
        if self.training and self.dropout:
            kept = torch.empty(x.shape, dtype=torch.bool, device=x.device).bernoulli_(1 - self.dropout)
        down, up = torch.cat((self.A, self.Wg)).to(kind), (self.B * self.scale).to(kind)
        base = self.base.weight, self.base.bias, isinstance(self.base, Conv1D)
        out, shares = _Weighed.apply(x, *base, down, up, kept, 1 / (1 - self.dropout))  # type: ignore[no-untyped-call]
        self.sink.take(self.name, shares.view(*x.shape[:-1], self.n_experts))
        return out  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Return what is shown of the layer beside its base."""
        return f"n_experts={self.n_experts}, rank={self.rank}, scale={self.scale}, dropout={self.dropout}"


def sides(base: nn.Module) -> tuple[int, int]:
    """Return the numbers of inputs and outputs of a linear map.

    Examples
    --------
    >>> sides(nn.Linear(3, 2)), sides(Conv1D(2, 3))
    ((3, 2), (3, 2))
    """
    n_out, n_in = base.weight.shape  # type: ignore[misc]
    return (n_out, n_in) if isinstance(base, Conv1D) else (n_in, n_out)


class _Weighed(torch.autograd.Function):
    """``W0 x + (w (x) (A kept(x))) B^T`` and the shares ``w`` (tokens, experts).

    Here ``w (x) h`` weighs every block of ``rank`` columns by its expert's share. Written by hand, for autograd would keep the
    input after dropout and the middle in three forms, and add what comes of base and experts in a pass of its own.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool, down: Tensor, up: Tensor,
        kept: Tensor | None, more: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        out, n = _frozen(x, weight, bias, transposed=transposed), up.shape[1]
        flat, mask = _rows(x).to(down.dtype), None if kept is None else _rows(kept)
        if mask is None:
            middle, scores = (flat @ down.t()).tensor_split((n,), dim=1)
        else:
            middle, scores = ((flat * mask) @ down[:n].t()) * more, flat @ down[n:].t()
        shares = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        ctx.save_for_backward(flat, weight, down, up, mask, middle, shares)
        ctx.shape, ctx.kind, ctx.transposed, ctx.more = x.shape, x.dtype, transposed, more
        _rows(out).addmm_(_by_expert(middle, shares), up.t())
        return out, shares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, g_shares: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, down, up, mask, middle, shares = ctx.saved_tensors
        g, n = _rows(g).to(flat.dtype), up.shape[1]
        g_weighed = g @ up
        g_up = g.t() @ _by_expert(middle, shares)
        per_expert = _blocks(g_weighed.to(shares.dtype) * middle, shares).sum(-1) + g_shares
        g_scores = (shares * (per_expert - (shares * per_expert).sum(-1, keepdim=True))).to(flat.dtype)
        g_middle = _by_expert(g_weighed, shares)
        g_x = None
        if ctx.needs_input_grad[0]:
            g_x = g @ (weight.t() if ctx.transposed else weight).to(flat.dtype)
        if mask is None:
            both = torch.cat((g_middle, g_scores), dim=1)
            g_down = both.t() @ flat
            g_x = None if g_x is None else g_x.addmm_(both, down)
        else:
            g_middle = g_middle * ctx.more
            g_down = torch.cat((g_middle.t() @ (flat * mask), g_scores.t() @ flat))
            g_x = None if g_x is None else g_x.addcmul_(g_middle @ down[:n], mask.to(flat.dtype)).addmm_(g_scores, down[n:])
        return None if g_x is None else g_x.view(ctx.shape).to(ctx.kind), None, None, None, g_down, g_up, None, None


def _frozen(x: Tensor, weight: Tensor, bias: Tensor | None, *, transposed: bool) -> Tensor:
    """Return what the frozen map makes of an input, by the operation that it uses itself."""
    if not transposed:
        return nn.functional.linear(x, weight, bias)
    assert bias is not None
    return torch.addmm(bias, _rows(x), weight).view(*x.shape[:-1], weight.shape[1])


def _rows(value: Tensor) -> Tensor:
    return value.reshape(-1, value.shape[-1])


def _by_expert(middle: Tensor, shares: Tensor) -> Tensor:
    """Return the middle (tokens, experts * rank) with every expert's block times its share, in the middle's type."""
    return (_blocks(middle, shares) * shares[:, :, None].to(middle.dtype)).flatten(1)


def _blocks(middle: Tensor, shares: Tensor) -> Tensor:
    tokens, n_experts = shares.shape
    return middle.reshape(tokens, n_experts, middle.shape[1] // n_experts)
