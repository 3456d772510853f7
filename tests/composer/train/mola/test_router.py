"""Routers read prompts and nothing else, say by how much they are wrong, and grow without changing what they said."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from composer.encode import Encoding
from composer.train.batches import Row
from composer.train.layout import packed, padded
from composer.train.mola.router import Routers, classification_loss, decide, prompts_of


def rows() -> list[Row]:
    """Rows of four domains, each a prompt of n tokens and an answer of two."""
    made = [(0, 3), (1, 5), (0, 1), (2, 4), (1, 2), (3, 6)]
    return [Row.of(str(i), domain, Encoding(tuple(range(10 * i, 10 * i + n + 2)), (False,) * n + (True,) * 2))
            for i, (domain, n) in enumerate(made)]  # fmt: skip


def states_of(ids: torch.Tensor) -> torch.Tensor:
    """States that tell of which token they are."""
    return torch.stack([ids.float(), ids.float() ** 2], -1)


def told(batch: dict[str, torch.Tensor], pool: str) -> dict[float, tuple[float, ...]]:
    """Return what is pooled of every prompt, by its first token, with its weight and its domain."""
    prompts = prompts_of(batch)
    pooled = prompts.pooled(states_of(batch["input_ids"]), pool)  # type: ignore[arg-type]
    domain = batch["domain"][prompts.row]
    return {float(p[0]): (*p.tolist(), float(w), int(d)) for p, w, d in zip(pooled, prompts.weight, domain, strict=True)}


def test_the_prompt_is_what_stands_before_the_first_trained_token() -> None:
    batch = padded(rows())
    for pool in ("mean", "last"):
        found = prompts_of(batch).pooled(states_of(batch["input_ids"]), pool)  # type: ignore[arg-type]
        own = [row.ids[: row.n_tokens - 2].astype(np.float64) for row in rows()]
        expected = [[ids[-1], ids[-1] ** 2] if pool == "last" else [ids.mean(), (ids**2).mean()] for ids in own]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))
    assert prompts_of(batch).weight.tolist() == [2.0] * 6


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_bins_hold_the_same_prompts_as_padded_rows(pool: str) -> None:
    assert told(packed(rows(), length=14), pool) == told(padded(rows()), pool)


@pytest.mark.parametrize("pool", ["mean", "last"])
@pytest.mark.parametrize("with_labels", [True, False])
def test_padding_on_either_side_changes_no_prompt(pool: str, with_labels: bool) -> None:
    batch = padded(rows())
    if not with_labels:
        del batch["labels"]
    expected = prompts_of(batch).pooled(states_of(batch["input_ids"]), pool)  # type: ignore[arg-type]
    for left, right in ((0, 4), (3, 0), (2, 5)):
        fill = {"labels": -100}
        wide = {
            name: torch.nn.functional.pad(value, (left, right), value=fill.get(name, 0)) if value.dim() == 2 else value
            for name, value in batch.items()
        }
        assert torch.equal(prompts_of(wide).pooled(states_of(wide["input_ids"]), pool), expected)  # type: ignore[arg-type]


def test_answers_are_not_read() -> None:
    batch = padded(rows())
    other = {**batch, "input_ids": torch.where(batch["labels"] != -100, 99, batch["input_ids"])}
    for pool in ("mean", "last"):
        one, two = (prompts_of(each).pooled(states_of(each["input_ids"]), pool) for each in (batch, other))  # type: ignore[arg-type]
        assert torch.equal(one, two)


def test_a_row_without_a_prompt_has_its_first_token() -> None:
    ids = torch.tensor([[7, 8, 9], [0, 5, 6]])
    batch = {"input_ids": ids, "labels": ids, "attention_mask": torch.tensor([[1, 1, 1], [0, 1, 1]])}
    assert prompts_of(batch).pooled(states_of(ids), "mean")[:, 0].tolist() == [7.0, 5.0]


def test_uniform_logits_cost_the_logarithm_of_n_and_right_ones_nothing() -> None:
    labels, weight = torch.tensor([0, 5, 7]), torch.tensor([1.0, 4.0, 2.0])
    assert float(classification_loss(torch.zeros(2, 3, 8), labels, weight)) == pytest.approx(2.079442, abs=1e-6)
    right = torch.full((2, 3, 8), -1e4)
    right[:, torch.arange(3), labels] = 1e4
    assert float(classification_loss(right, labels, weight)) == 0.0


def test_the_loss_of_micro_batches_adds_up_by_trained_tokens() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(3, 6, 4, generator=generator), torch.tensor([0, 1, 2, 3, 0, 1])
    weight = torch.tensor([1.0, 7.0, 3.0, 2.0, 5.0, 4.0])
    parts = [slice(0, 2), slice(2, 5), slice(5, 6)]
    whole = sum(classification_loss(logits[:, p], labels[p], weight[p]) * weight[p].sum() for p in parts) / weight.sum()
    torch.testing.assert_close(whole, classification_loss(logits, labels, weight))


def test_widening_leaves_logits_and_probabilities_as_they_were() -> None:
    routers, pooled = Routers(2, 3, 4), torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    torch.nn.init.normal_(routers.weight, generator=torch.Generator().manual_seed(3))
    wide = routers.widened(2)
    for block in range(2):
        before, after = routers.logits(pooled, block), wide.logits(pooled, block)
        torch.testing.assert_close(before, after[:, :3])
        torch.testing.assert_close(before.softmax(-1), after.softmax(-1)[:, :3])
        assert after.softmax(-1)[:, 3:].tolist() == [[0.0, 0.0]] * 5
        wide.closed[3] = 0.0
        assert torch.equal(wide.logits(pooled, block)[:, 3], torch.zeros(5))  # open, and it says nothing yet
        wide.closed[3] = -math.inf


def test_a_closed_expert_does_no_harm_to_gradients() -> None:
    routers = Routers(1, 2, 4).widened(1)
    loss = classification_loss(routers.logits(torch.ones(3, 4), 0)[None], torch.tensor([0, 1, 0]), torch.ones(3))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert routers.weight.grad is not None
    assert routers.weight.grad.isfinite().all()
    assert routers.weight.grad[:, 2].tolist() == [[0.0] * 4]


def test_below_the_threshold_the_base_answers() -> None:
    logits = torch.tensor([[[4.0, 0.0, 0.0], [0.1, 0.2, 0.0]]])
    assert decide(logits, threshold=0.0).experts.tolist() == [[0, 1]]
    assert decide(logits, threshold=0.5).experts.tolist() == [[0, -1]]


def test_a_vote_is_the_mean_of_log_probabilities() -> None:
    logits = torch.tensor([[[2.0, 0.0, 0.0]], [[0.0, 3.0, 0.0]], [[0.5, 0.0, 0.0]]])
    mean = logits.log_softmax(-1).mean(0).log_softmax(-1)
    found = decide(logits, threshold=0.0, joined=True)
    torch.testing.assert_close(found.log_probs[0], mean)
    assert found.experts.tolist() == [[1]]
    assert decide(logits, threshold=0.0).experts.tolist() == [[0], [1], [0]]


def test_the_scale_of_states_does_not_change_what_is_decided() -> None:
    routers = Routers(1, 3, 8)
    torch.nn.init.normal_(routers.weight, generator=torch.Generator().manual_seed(4))
    states = torch.randn(4, 8, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(routers.logits(states, 0), routers.logits(1e-3 * states, 0))
