"""A byte-level tokenizer with chosen merges, and a session whose law of the next token is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from probes.engines import Completion, TokenScores

BOS, EOS = 0, 1

Law = Callable[[Sequence[str], str], float]
"""The probability of a token (as the tokenizer writes it), given those before it."""


@cache
def byte_tokenizer(*merges: str, bos: bool = True, eos: bool = True, positions: int | None = None) -> Any:
    """Return a tokenizer of single bytes but for the merges, each ``left right``; merges may cross words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pairs = [tuple(merge.split(" ")) for merge in merges]
    words = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in pairs)]
    raw = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=pairs))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    named = {"bos_token": "<s>"} if bos else {}
    named |= {"eos_token": "</s>"} if eos else {}
    limit = {"model_max_length": positions} if positions else {}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **named, **limit)


class Reading:
    """A session that scores by a law and remembers what it was shown."""

    def __init__(self, law: Law, tokenizer: Any | None = None, *, breaks_after: int = 10**9) -> None:
        self.law, self.tokenizer, self.breaks_after = law, tokenizer or byte_tokenizer(), breaks_after
        self.shown: list[list[int]] = []
        self.calls = 0

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        if self.calls == self.breaks_after:
            raise KeyboardInterrupt
        self.calls += 1
        self.shown += [list(sequence) for sequence in sequences]
        return [self._score(self.tokenizer.convert_ids_to_tokens(list(sequence))) for sequence in sequences]

    def _score(self, words: Sequence[str]) -> TokenScores:
        with np.errstate(divide="ignore"):
            logprob = np.log([self.law(words[:i], words[i]) for i in range(1, len(words))])
        return TokenScores(np.asarray(logprob, dtype=np.float64), np.zeros(len(words) - 1, dtype=bool))

    def complete(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float = 1.0, seed: int
    ) -> list[Completion]:
        raise NotImplementedError

    def choose(self, prompts: Sequence[Sequence[int]], choices: Sequence[int]) -> np.ndarray:
        raise NotImplementedError

    @property
    def n_shown(self) -> int:
        """How many tokens it was shown."""
        return sum(map(len, self.shown))


def halves(_before: Sequence[str], _word: str) -> float:
    """Every token costs one bit."""
    return 0.5
