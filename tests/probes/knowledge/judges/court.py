"""Texts whose domains show in their words, and a session that reads these words by a law that is known exactly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from composer.train.tokenizer import learn
from probes.engines import Completion, TokenScores
from probes.knowledge.judges.scaling import log_softmax

DOMAINS = ("law", "medicine", "code")
WORDS = {
    "law": "court judge contract clause tenant statute appeal verdict",
    "medicine": "patient dose fever tablet symptom nurse surgery blood",
    "code": "function loop array compile variable string integer class",
}
COMMON = "the a of and is was in to with for on that this not very some"


def text(domain: str, random: np.random.Generator, *, own: float = 0.4, length: int = 20) -> str:
    pick = [WORDS[domain].split() if random.random() < own else COMMON.split() for _ in range(length)]
    return " ".join(words[random.integers(len(words))] for words in pick)


def examples(n: int = 40, *, seed: int = 0, own: float = 0.4) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    labels = [domain for domain in DOMAINS for _ in range(n)]
    return [text(label, random, own=own) for label in labels], labels


def drawn(n: int, shares: Sequence[float], *, seed: int, own: float = 0.4) -> list[str]:
    random = np.random.default_rng(seed)
    return [text(DOMAINS[j], random, own=own) for j in random.choice(3, size=n, p=shares)]


@lru_cache
def tokenizer(*, chat: bool = False) -> Any:
    made = learn([" ".join([COMMON, *WORDS.values(), "Every text Domain"])] * 3, vocab=500)
    made.chat_template = made.chat_template if chat else None
    return made


class Reader:
    """The log-odds of a letter are ``strength`` for every word of its domain, plus its ``bias``; all letters have ``mass``."""

    def __init__(
        self, *, strength: float = 1.0, bias: Sequence[float] = (0, 0, 0), mass: float = 0.5, chat: bool = False,
        n_positions: int | None = None,
    ) -> None:  # fmt: skip
        self.tokenizer: Any = tokenizer(chat=chat)
        self.strength, self.bias, self.mass, self.n_positions = strength, bias, mass, n_positions
        self.asked: list[str] = []

    def choose(self, prompts: Sequence[Sequence[int]], choices: Sequence[int]) -> np.ndarray:
        self.asked += [self.tokenizer.decode(list(prompt)) for prompt in prompts]
        letters = [self.tokenizer.decode([choice]).strip() for choice in choices]
        return np.array([self._read(asked, letters) for asked in self.asked[len(self.asked) - len(prompts) :]])

    def _read(self, asked: str, letters: Sequence[str]) -> np.ndarray:
        domain_of = dict(re.findall(r"^([A-Z]): (\w+)$", asked, flags=re.MULTILINE))
        shown = asked.rpartition("Text:\n")[2]
        counts = [sum(word in WORDS[domain_of[letter]].split() for word in re.findall(r"\w+", shown)) for letter in letters]
        bias = [self.bias["ABC".index(letter)] for letter in letters]
        return log_softmax(self.strength * np.array(counts, dtype=float) + bias) + np.log(self.mass)

    def complete(self, *_: Any, **__: Any) -> list[Completion]:
        raise AssertionError("a judge asks for no text")

    def score(self, *_: Any) -> list[TokenScores]:
        raise AssertionError("a judge scores no text")
