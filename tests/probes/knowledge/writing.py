"""A session that writes texts of known domains, and what its probe is asked with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from composer.types import KnowledgeDistribution
from probes.engines import Completion, Session, TokenScores
from probes.knowledge.self_generation import SelfGeneration

DOMAINS = ("law", "medicine", "code")
TRUTH = (0.6, 0.3, 0.1)
WORDS = {"law": "court judge clause", "medicine": "patient dose fever", "code": "function loop array"}


def text(domain: str, random: np.random.Generator) -> str:
    return " ".join(random.choice(WORDS[domain].split(), size=8))


class World:
    """A session that writes texts of known domains and counts what it is asked; a text has ``longest`` tokens at most."""

    def __init__(
        self, *, bos: int | None = 0, eos: int | None = 1, empty: float = 0.0, breaks_after: int = 10**9, longest: int = 8,
        shares: Sequence[float] = TRUTH,
    ) -> None:  # fmt: skip
        self.tokenizer: Any = SimpleNamespace(bos_token_id=bos, bos_token="<s>", eos_token_id=eos, eos_token="</s>")
        self.empty, self.breaks_after, self.longest, self.shares = empty, breaks_after, longest, shares
        self.prompts: list[tuple[int, ...]] = []
        self.seeds: list[int] = []

    def complete(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float = 1.0, seed: int
    ) -> list[Completion]:
        assert (max_new_tokens, temperature) == (128, 1.0)
        if len(self.seeds) == self.breaks_after:
            raise KeyboardInterrupt
        self.prompts += [tuple(prompt) for prompt in prompts]
        self.seeds.append(seed)
        random = np.random.default_rng(seed)
        return [self._write(random) for _ in prompts]

    def _write(self, random: np.random.Generator) -> Completion:
        words = " \n" if random.random() < self.empty else text(DOMAINS[random.choice(3, p=self.shares)], random)
        n_tokens = 8 if self.longest == 8 else int(random.integers(1, self.longest + 1))
        return Completion((5,) * n_tokens, words, True)

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        raise NotImplementedError

    def choose(self, prompts: Sequence[Sequence[int]], choices: Sequence[int]) -> np.ndarray:
        raise NotImplementedError


def examples() -> pl.DataFrame:
    random = np.random.default_rng(0)
    rows = [(domain, text(domain, random)) for domain in DOMAINS for _ in range(30)]
    return pl.DataFrame(rows, schema=["domain", "text"], orient="row")


def measure(world: Session, reference: pl.DataFrame, folder: Path, *, seed: int = 0, **fields: Any) -> KnowledgeDistribution:
    """Measure; the answers of a session that is :class:`probes.engines.kept.Kept` in the folder are found again there."""
    return SelfGeneration(**fields).measure(world, domains=DOMAINS, reference=reference, seed=seed, folder=folder)
