"""Engines: what completes and scores token sequences with a causal language model.

An engine opens a model for a while and hands out a session; a session has three methods and speaks of token ids only, so that a
probe never knows which library answers. Fields of an engine say where and how fast, hence all of them stay outside identity.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from composer.spec import Spec
from composer.types import ModelRef


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt.

    ``ids`` are the new tokens, the end token included where the model wrote one (then ``finished``); ``text`` is decoded
    without special tokens.
    """

    ids: tuple[int, ...]
    text: str
    finished: bool


@dataclass(frozen=True, eq=False)
class TokenScores:
    """How a model reads a sequence of n tokens: entry ``i`` speaks of token ``i + 1``, given all tokens before it.

    ``logprob`` is float64 of shape (n - 1,), in nats; ``top`` is bool of the same shape: was this token the most likely one?
    """

    logprob: np.ndarray
    top: np.ndarray


class Session(Protocol):
    """A model that is open and answers."""

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""

    def complete(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float = 1.0, seed: int
    ) -> list[Completion]:
        """Continue every prompt, in the given order; temperature 0 takes the most likely token each time."""

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        """Return the log-probability of every token but the first, in the given order."""

    def choose(self, prompts: Sequence[Sequence[int]], choices: Sequence[int]) -> np.ndarray:
        """Return how likely each choice is as the next token: natural log-probabilities over the whole vocabulary, float64.

        The shape is (prompts, choices): rows in the order of the prompts, columns in that of the distinct tokens ``choices``.
        """


class Engine(Spec):
    """A way to run models."""

    name: str
    summary: ClassVar[str]
    reference: ClassVar[str]

    def check(self) -> None:
        """Refuse, before other work is done, what cannot be opened on this machine whatever the model.

        Raises
        ------
        ModelError
            Where what the engine stands on is not installed.
        """

    @abstractmethod
    def open(self, model: ModelRef) -> AbstractContextManager[Session]:
        """Load a model and answer with it until the context ends; its memory is then free again."""


from probes.engines.hf import Hf  # noqa: E402  members build on what stands above
from probes.engines.openai import OpenAI  # noqa: E402
from probes.engines.vllm import Vllm  # noqa: E402

ENGINES: dict[str, type[Engine]] = {"hf": Hf, "openai": OpenAI, "vllm": Vllm}
