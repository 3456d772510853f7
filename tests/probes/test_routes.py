"""Whom a mixture asks: counted by domain, with the base where it answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from composer.tables import ROUTES, SAMPLE
from probes.engines import Session
from probes.routes import BASE, routes


class Routed:
    """A session whose routers go by the length of a prompt; two blocks, of which the second always asks ``b``."""

    experts = ("a", "b")
    batch_tokens = 40

    def __init__(self, tokenizer: Any, *, alone: bool) -> None:
        self.tokenizer, self.alone = tokenizer, alone
        self.read: list[list[int]] = []

    def route(self, prompts: Sequence[Sequence[int]]) -> Any:
        self.read += [list(prompt) for prompt in prompts]
        first = [-1 if self.alone and len(prompt) > SHORT else 0 for prompt in prompts]
        experts = torch.tensor([first, [1] * len(prompts)])
        return SimpleNamespace(experts=experts, log_probs=torch.full((2, len(prompts), 2), float(np.log(0.5))))


SHORT = 40


@pytest.fixture
def tokenizer(session: Session) -> Any:
    return session.tokenizer


@pytest.fixture
def samples() -> pl.DataFrame:
    rows = []
    for i, (domain, text) in enumerate((("law", "May I?"), ("law", "May a tenant of a flat " * 6), ("code", "Why?"))):
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "The answer."}]
        rows.append((f"{i}", "source", domain, "validation", f"i{i}", messages, 9, 3, "MIT", "r", None))
    return pl.DataFrame(rows, schema=dict(SAMPLE), orient="row")


def test_shares_are_means_over_blocks_and_prompts(samples: pl.DataFrame, tokenizer: Any) -> None:
    session = Routed(tokenizer, alone=False)
    found = routes(session, samples, max_length=200)
    assert found.schema == pl.Schema(ROUTES)
    assert found.rows() == [
        (domain, expert, n, 0.5, pytest.approx(0.5)) for domain, n in (("law", 2), ("code", 1)) for expert in ("a", "b")
    ]
    assert all("answer" not in tokenizer.decode(prompt) for prompt in session.read)


def test_the_base_has_a_row_where_it_answers_alone(samples: pl.DataFrame, tokenizer: Any) -> None:
    found = routes(Routed(tokenizer, alone=True), samples, max_length=200)
    long = {domain: expert for domain, expert, _, share, _ in found.rows() if expert == BASE and share}
    assert long == {"law": BASE}
    assert found.filter(pl.col("expert") == BASE)["probability"].null_count() == 2
    for _, own in found.group_by("domain"):
        assert own["share"].sum() == pytest.approx(1)
