"""The layer of experts: what it equals, what it gives back to each parameter, and what it keeps in between."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from composer.errors import SpecError
from composer.train.moe.layer import Experts, Sink, sides

X = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(1))


def layer(base: type = nn.Linear, *, fresh: bool = False, kind: torch.dtype = torch.float32, **fields: Any) -> Experts:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        map_ = nn.Linear(12, 10) if base is nn.Linear else Conv1D(10, 12)
        made = Experts(map_, **{"n_experts": 4, "rank": 2, "alpha": 8, "dropout": 0.0, **fields}).to(kind)
        if not fresh:
            nn.init.normal_(made.B)
            nn.init.normal_(made.Wg)
    return made


def loop(made: Experts, x: Tensor, kept: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """The formula, expert by expert."""
    shares = (x @ made.Wg.t()).softmax(-1)
    y = made.base(x)
    for n in range(made.n_experts):
        block = slice(n * made.rank, (n + 1) * made.rank)
        expert = (x * kept) @ made.A[block].t() @ made.B[:, block].t()
        y = y + made.scale * shares[..., n : n + 1] * expert
    return y, shares


def gradients(made: Experts, out: Tensor, shares: Tensor, x: Tensor) -> dict[str, Tensor]:
    """Of a loss in which both the output and the shares have a part."""
    g = torch.Generator().manual_seed(3)
    loss = (out * torch.randn(out.shape, generator=g)).sum() + (shares * torch.randn(shares.shape, generator=g)).sum()
    moving = {name: value for name, value in made.named_parameters() if value.requires_grad} | {"x": x}
    return dict(zip(moving, torch.autograd.grad(loss, list(moving.values())), strict=True))


def taken(made: Experts, x: Tensor) -> tuple[Tensor, Tensor]:
    made.sink.emptied(anew=True)
    out = made(x)
    return out, made.sink.emptied(anew=False)[made.name]


def assert_close(one: Tensor, two: Tensor) -> None:
    one, two = one.detach(), two.detach()
    assert float((one - two).abs().max()) <= 1e-5 * max(float(two.abs().max()), 1.0)


@pytest.mark.parametrize("base", [nn.Linear, Conv1D])
def test_it_is_the_loop_with_its_gradients(base: type) -> None:
    made, x = layer(base), X.clone().requires_grad_()
    ours, theirs = taken(made, x), loop(made, x)
    for one, two in zip(ours, theirs, strict=True):
        assert_close(one, two)
    expected = gradients(made, *theirs, x)
    found = gradients(made, *ours, x)
    assert set(found) == {"A", "B", "Wg", "x"}
    for name, value in found.items():
        assert_close(value, expected[name])


def test_dropout_is_one_mask_for_all_experts_and_none_for_the_router() -> None:
    made, x = layer(dropout=0.4), X.clone().requires_grad_()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        ours = taken(made, x)
        torch.manual_seed(4)
        kept = torch.empty(21, 12, dtype=torch.bool).bernoulli_(0.6).view_as(x) / 0.6
    theirs = loop(made, x, kept)
    assert not torch.equal(ours[0], loop(made, x)[0])
    for one, two in zip(ours, theirs, strict=True):
        assert_close(one, two)
    expected = gradients(made, *theirs, x)
    for name, value in gradients(made, *ours, x).items():
        assert_close(value, expected[name])
    assert_close(made.eval()(x), loop(made, x)[0])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_differences(dropout: float) -> None:
    made = layer(kind=torch.float64, dropout=dropout, n_experts=2)
    parameters = (made.A, made.B, made.Wg, X[0, :2].double().requires_grad_())

    def of(*values: Tensor) -> tuple[Tensor, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            out = torch.func.functional_call(made, dict(zip(("A", "B", "Wg"), values[:3], strict=True)), values[3])
        return out, made.sink.emptied(anew=True)[""]

    made.sink.emptied(anew=True)
    assert torch.autograd.gradcheck(of, parameters, fast_mode=True)


@pytest.mark.parametrize("base", [nn.Linear, Conv1D])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_it_begins_as_the_frozen_map_to_the_bit(base: type, kind: torch.dtype) -> None:
    made = layer(base, fresh=True, kind=kind, dropout=0.5)
    x = X.to(kind)
    assert torch.equal(made(x), made.base(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made(X), made.base(X))
        assert made(X).dtype == torch.bfloat16
    made.A.data *= 1e6
    assert torch.equal(made(x), made.base(x))
    assert torch.equal(made.eval()(x[:0]), made.base(x[:0]))


def test_the_draw_is_that_of_kaiming() -> None:
    made = layer(fresh=True, n_experts=64, rank=4)
    for thin in (made.A, made.Wg):
        assert 0.95 * 12**-0.5 < float(thin.detach().abs().max()) <= 12**-0.5
        assert float(thin.detach().std()) == pytest.approx((12 * 3) ** -0.5, rel=0.1)
    assert not made.B.any()


def lora(made: Experts, x: Tensor, block: slice) -> Tensor:
    return made.base(x) + made.scale * (x @ made.A[block].t() @ made.B[:, block].t())


def test_one_expert_is_lora() -> None:
    made = layer(n_experts=1)
    assert_close(made(X), lora(made, X, slice(0, 2)))


def test_equal_experts_are_lora_whatever_the_router_says() -> None:
    made = layer()
    with torch.no_grad():
        made.A.copy_(made.A[:2].repeat(4, 1))
        made.B.copy_(made.B[:, :2].repeat(1, 4))
    assert_close(made(X), lora(made, X, slice(0, 2)))


def test_shares_sum_to_one_for_each_token() -> None:
    shares = taken(layer(), X)[1]
    assert shares.shape == (3, 7, 4)
    assert shares.dtype == torch.float32
    torch.testing.assert_close(shares.sum(-1), torch.ones(3, 7))


def test_gradient_reaches_the_experts_and_the_router_only() -> None:
    made = layer()
    made(X).sum().backward()
    assert {name for name, value in made.named_parameters() if value.grad is not None} == {"A", "B", "Wg"}


def kept_bytes(work: Any) -> int:
    """The bytes of all distinct storages that autograd keeps for the way back, parameters with them."""
    seen: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        out = work()
    assert out.requires_grad
    return sum(seen.values())


@pytest.mark.parametrize(("dropout", "share"), [(0.0, 0.2), (0.05, 0.2)])
def test_it_keeps_a_fifth_of_what_the_loop_keeps(dropout: float, share: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Experts(nn.Linear(256, 256), n_experts=8, rank=4, alpha=8, dropout=dropout)
        x = torch.randn(512, 256, requires_grad=True)
    assert kept_bytes(lambda: made(x)) <= share * kept_bytes(lambda: loop(made, x, torch.ones(()))[0])


def test_a_pass_in_bfloat16_is_near_that_in_float32() -> None:
    made, x = layer(), X.clone().requires_grad_()
    exact = taken(made, x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = taken(made, x)
    assert rough[1].dtype == torch.float32
    expected = gradients(made, *exact, x)
    for name, value in gradients(made, rough[0].float(), rough[1], x).items():
        assert value.dtype == torch.float32
        assert float((value - expected[name]).norm() / expected[name].norm()) < 0.03


def test_a_closed_sink_takes_nothing() -> None:
    sink = Sink()
    made = Experts(nn.Linear(4, 4), n_experts=2, rank=1, alpha=1, dropout=0.0, name="map", sink=sink)
    made(torch.ones(1, 4))
    assert not sink.emptied(anew=True)
    made(torch.ones(1, 4))
    assert list(sink.emptied(anew=False)) == ["map"]
    made(torch.ones(1, 4))
    assert not sink.taken


def test_a_rank_above_the_maps_is_refused() -> None:
    assert sides(layer(rank=10).base) == (12, 10)
    with pytest.raises(SpecError, match=r"^rank: a rank above that of the map; expected at most 10; got 11; lower rank"):
        layer(rank=11)
