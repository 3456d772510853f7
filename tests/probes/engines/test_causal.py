"""Tokens are drawn from the whole distribution, in batches that stay within their budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ModelError
from probes.engines.causal import batches, draw


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 200))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    made = list(batches(lengths, budget))
    assert sorted(row for rows in made for row in rows) == list(range(len(lengths)))
    for rows in made:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= budget


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_token_of_probability_zero_is_never_drawn(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = torch.tensor(random.normal(size=(64, 9)))
    logits[:, [0, 4, 8]] = -torch.inf
    uniforms = torch.tensor(1 - random.random(64))
    uniforms[:2] = torch.tensor([1.0, 2.0**-53])
    assert not set(draw(logits, uniforms, temperature=1.0)) & {0, 4, 8}


def test_the_temperature_sharpens() -> None:
    logits = torch.tensor([[0.0, 1.0]] * 1000)
    uniforms = torch.linspace(0.001, 1, 1000, dtype=torch.float64)
    shares = [np.mean(draw(logits, uniforms, temperature=t)) for t in (0, 0.5, 1.0, 100.0)]
    assert shares == pytest.approx([1, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1)), 0.5], abs=0.004)


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="not finite"):
        draw(torch.tensor([[0.0, torch.nan]]), torch.tensor([0.5]), temperature=1.0)
