"""LoRAMoE in a model: where its experts go, and what is balanced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from composer.encode import Encoding
from composer.train.adapters.loramoe import LoraMoe
from composer.train.batches import Row
from composer.train.layout import packed, padded, token_losses
from composer.train.moe.layer import Experts

Make = Callable[..., Any]
DOMAINS = ("law", "code")
MAPS = dict.fromkeys(("llama", "qwen2", "mistral"), ("gate_proj", "up_proj", "down_proj")) | {"gpt2": ("c_fc", "c_proj")}


def rows(*lengths: int) -> list[Row]:
    return [Row.of(str(i), i % 2, Encoding(tuple(range(3 + i, 3 + i + n)), (True,) * n)) for i, n in enumerate(lengths)]


def awake(model: Any) -> Any:
    """Let experts and routers be as in the middle of training."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        for module in model.modules():
            if isinstance(module, Experts):
                torch.nn.init.normal_(module.B, std=0.1)
                torch.nn.init.normal_(module.Wg)
    return model


def term(adapter: LoraMoe, model: Any, batch: dict[str, Tensor]) -> Tensor:
    adapter.before_forward(model, batch)
    token_losses(model, batch)
    found = adapter.extra_loss(model, batch)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", sorted(MAPS))
def test_every_family_has_experts_on_its_feed_forward_maps_alone(kind: str, network: Make) -> None:
    ids, before = torch.arange(5, 69).reshape(4, 16), network(kind)
    model = LoraMoe().attach(network(kind), previous=None, seed=1)
    maps = [name for name, module in model.named_modules() if isinstance(module, Experts)]
    assert [name.rsplit(".", 1)[-1] for name in maps] == list(MAPS[kind]) * 2
    assert all(".mlp." in name for name in maps)
    assert torch.equal(model(ids).logits, before(ids).logits)
    model.train()
    awake(model)(ids, labels=ids).loss.backward()
    moved = {name for name, value in model.named_parameters() if value.grad is not None}
    assert moved == set(LoraMoe().state(model)) == {f"{name}.{part}" for name in maps for part in ("A", "B", "Wg")}


@pytest.mark.parametrize("fields", [{}, {"form": "cv2"}, {"own_group": "more", "delta": 0.5}, {"beta": 3.0}])
def test_the_term_is_that_of_the_formula(fields: dict[str, Any], network: Make) -> None:
    adapter = LoraMoe(n_experts=4, rank=2, dropout=0, knowledge=("law",), **fields)
    model = awake(adapter.attach(network("llama"), previous=None, seed=1, domains=DOMAINS)).train()
    seen: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, Experts):
            module.register_forward_hook(lambda made, given, _, name=name: seen.update({name: given[0] @ made.Wg.t()}))
    lengths = (9, 5, 3)
    found = term(adapter, model, padded(rows(*lengths)))
    tilt = adapter.delta if adapter.own_group == "less" else -adapter.delta
    terms = []
    for scores in seen.values():
        z = []
        for m, n_tokens in enumerate(lengths):  # the first and the third row are of law
            for n in range(4):
                match = (m % 2 == 0) == (n < 2)
                load = sum(float(scores[m, t].softmax(-1)[n].detach()) for t in range(n_tokens)) / n_tokens
                z.append(load * (1 + tilt if match else 1 - tilt))
        mean = sum(z) / len(z)
        var = sum((each - mean) ** 2 for each in z) / len(z)
        terms.append(var / (mean if adapter.form == "var_over_mean" else mean**2))
    assert found.item() == pytest.approx(adapter.beta * sum(terms) / len(terms), rel=1e-4)
    assert len(terms) == 6


def test_the_term_sees_no_padding_in_either_layout(network: Make) -> None:
    adapter = LoraMoe(dropout=0, knowledge=("law",))
    model = awake(adapter.attach(network("llama"), previous=None, seed=1, domains=DOMAINS)).train()
    of = rows(9, 5, 2)
    one, wide = padded(of), padded([*of, *rows(16)])
    wide = {name: value[:3] for name, value in wide.items()}
    in_bins = packed(of, length=9)
    assert in_bins["input_ids"].shape[0] == 3 or in_bins["domain"].tolist() == [0, 1, 0]
    values = [term(adapter, model, batch).item() for batch in (one, wide, in_bins)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)


def test_the_term_moves_routers_and_what_lies_below_only(network: Make) -> None:
    adapter = LoraMoe(dropout=0, knowledge=("law",))
    model = awake(adapter.attach(network("llama"), previous=None, seed=1, domains=DOMAINS)).train()
    term(adapter, model, padded(rows(9, 5))).backward()
    last = model.model.layers[1].mlp.down_proj
    assert float(last.Wg.grad.abs().max()) > 0
    assert not last.B.grad.any()
    assert not last.A.grad.any()
    assert all(value.grad is None for name, value in model.named_parameters() if name.endswith((".weight", ".bias")))


def test_outside_training_nothing_is_taken_and_nothing_is_left(network: Make) -> None:
    adapter, batch = LoraMoe(knowledge=("law",)), padded(rows(9, 5))
    model = adapter.attach(network("llama"), previous=None, seed=1, domains=DOMAINS)
    off = LoraMoe(beta=0)
    for each, other in ((adapter, model), (off, off.attach(network("llama"), previous=None, seed=1, domains=DOMAINS).train())):
        each.before_forward(other, batch)
        token_losses(other, batch)
        assert each.extra_loss(other, batch) is None
        assert not other.experts.sink.taken
    term(adapter, model.train(), batch)
    assert (model.experts.batch, model.experts.sink.taken, model.experts.sink.open) == (None, {}, False)
    token_losses(model, batch)
    assert adapter.extra_loss(model, batch) is None
    alone = LoraMoe().attach(network("llama"), previous=None, seed=1).train()  # of domains that nobody named
    LoraMoe().before_forward(alone, batch)
    token_losses(alone, batch)
    assert LoraMoe().extra_loss(alone, batch) is None


@pytest.mark.parametrize(("own_group", "share"), [("less", 0.25), ("more", 0.75)])
def test_the_groups_come_apart_as_far_as_delta_says(own_group: Any, share: float, network: Make) -> None:
    adapter = LoraMoe(n_experts=4, delta=0.5, beta=1, dropout=0, own_group=own_group, knowledge=("law",))
    model = adapter.attach(network("llama"), previous=None, seed=1, domains=DOMAINS).train()
    apart = [Row.of("", i, Encoding(tuple(range(5 + 20 * i, 15 + 20 * i)), (True,) * 10)) for i in (0, 1)]
    batch, optimizer = padded(apart), torch.optim.Adam(adapter.state(model).values(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        term(adapter, model, batch).backward()
        optimizer.step()
    adapter.before_forward(model, batch)
    token_losses(model, batch)
    load = model.experts.loads().detach()[[0, 1, 3, 4]]  # (maps, rows, experts); what down_proj gets is tiny here
    own = torch.stack([load[:, 0, :2].sum(-1), load[:, 1, 2:].sum(-1)])
    assert float((own - share).abs().max()) < 0.06
