"""How likely a model finds texts, or parts of them: what every probe rests on that reads and does not write.

A text is tokenised whole and is read after the beginning-of-text token, so that its first token is judged too; a tokenizer
without that token begins with its end-of-text token. What is longer than the model's window is read in several, each with the
beginning-of-text token in front. They overlap, every token is judged once, and it has at least ``overlap`` tokens before it (or
all that there are).

Only a whole text is sure to be tokenised as the model met it, so a part of a text is a run of the whole text's tokens. Its
bytes follow from the tokenizer's offsets: a token takes the bytes from the end of the tokens before it to its own end, so white
space that a tokenizer leaves out of its offsets belongs to the token behind it. A character that is split over several tokens
is complete with the last of them; a part never ends inside one, but before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from composer.encode import tokens
from composer.errors import ModelError, SourceError, SpecError
from composer.progress import track
from probes.engines import Session, TokenScores
from probes.engines.requests import Request, answers
from probes.knowledge import KnowledgeProbe

_SHARD_TOKENS = 65_536


@dataclass(frozen=True, eq=False)
class Tokens:
    """A text in n tokens with their borders.

    ``edges`` is int64 (n + 1,): ``edges[i]`` bytes of the text are complete before token i. ``whole`` is bool of the same
    shape: no character has tokens on both sides of border i.
    """

    ids: tuple[int, ...]
    edges: np.ndarray
    whole: np.ndarray

    def until(self, most: int) -> int:
        """Return the last border, at most ``most`` tokens in, that splits no character."""
        return int(np.flatnonzero(self.whole[: most + 1])[-1])


@dataclass(frozen=True)
class Passage:
    """The tokens ``first`` to ``after`` (exclusive) of a text, to be judged given those before them."""

    ids: tuple[int, ...]
    first: int
    after: int


def tokenise(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Return the tokens of every text, without added special ones."""
    return [
        Tokens(tuple(found.ids), *borders(text, found.offsets))
        for text, found in zip(texts, tokens(tokenizer, texts), strict=True)
    ]


def borders(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return ``edges`` and ``whole`` of :class:`Tokens`; ``offsets`` are the tokens' first characters and those behind them.

    Examples
    --------
    >>> edges, whole = borders("né!", [(0, 1), (1, 2), (1, 2), (2, 3)])
    >>> edges.tolist(), whole.tolist()
    ([0, 1, 1, 3, 4], [True, True, False, True, True])
    """
    code = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    n_bytes = np.cumsum([0, *(1 + (code >= 0x80) + (code >= 0x800) + (code >= 0x10000)).tolist()])
    begin, end = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
    before = np.maximum.accumulate([0, *end])
    behind = np.minimum.accumulate([*begin, len(text)][::-1])[::-1]
    edges = n_bytes[np.minimum(before, behind)]
    edges[-1] = n_bytes[-1]
    return edges, before <= behind


def beginning(tokenizer: Any) -> tuple[int, str]:
    """Return the token that a text begins with and its name: beginning-of-text, or end-of-text where there is no such token.

    Raises
    ------
    ModelError
        Where it has neither.
    """
    for kind in ("bos_token", "eos_token"):
        token = getattr(tokenizer, f"{kind}_id")
        if token is not None:
            return int(token), f"{kind} {getattr(tokenizer, kind)}"
    raise ModelError("the tokenizer has neither a beginning-of-text nor an end-of-text token", where="base_model.path")


@dataclass(frozen=True)
class Reader:
    """Reads passages in windows of ``size`` tokens of a text behind ``begin``."""

    begin: int
    size: int
    overlap: int

    def windows(self, passage: Passage) -> Iterator[tuple[list[int], slice]]:
        """Yield what the model is shown, and which of its scores speak of the passage.

        Examples
        --------
        >>> for shown, kept in Reader(0, 4, 1).windows(Passage((1, 2, 3, 4, 5, 6), 1, 6)):
        ...     shown, kept
        ([0, 1, 2, 3, 4], slice(1, 4, None))
        ([0, 3, 4, 5, 6], slice(2, 4, None))
        """
        done = passage.first
        while done < passage.after:
            end = min(passage.after, max(self.size, done + self.size - self.overlap))
            start = max(0, end - self.size)
            yield [self.begin, *passage.ids[start:end]], slice(done - start, end - start)
            done = end

    def n_tokens(self, passages: Sequence[Passage]) -> int:
        """Return how many tokens the model will be shown."""
        return sum(len(shown) for passage in passages for shown, _ in self.windows(passage))

    def nats(self, session: Session, passages: Sequence[Passage]) -> np.ndarray:
        """Return the log-probability of every passage, float64 (n,), in nats; texts are shown in shards of some tokens.

        Raises
        ------
        ModelError
            Where the model holds a token for impossible.
        """
        parts = list(_shards(passages))
        requests = [Request("score", [shown for passage in part for shown, _ in self.windows(passage)]) for part in parts]
        given = track(answers(session, requests), "reading texts", total=len(parts), unit="shards")
        found = [self._sums(part, scores) for part, scores in zip(parts, given, strict=True)]
        return np.concatenate([np.zeros(0), *found])

    def _sums(self, passages: Sequence[Passage], scores: Sequence[TokenScores]) -> np.ndarray:
        asked = [(i, kept) for i, passage in enumerate(passages) for _, kept in self.windows(passage)]
        nats = np.zeros(len(passages))
        for (i, kept), score in zip(asked, scores, strict=True):
            nats[i] += score.logprob[kept].sum()
        return nats


def _shards(passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    upto = np.cumsum([len(passage.ids) for passage in passages])
    for _, part in groupby(zip(passages, upto // _SHARD_TOKENS, strict=True), key=lambda pair: pair[1]):
        yield [passage for passage, _ in part]


class LikelihoodProbe(KnowledgeProbe):
    """A probe that reads texts and asks how likely the model finds them.

    A ``window`` is what the model is shown at once, the token that it begins with included, and never more than the tokenizer
    says the model can read; each window repeats the last ``overlap`` tokens of the one before it.
    """

    window: int = Field(default=512, ge=2)
    overlap: int = Field(default=128, ge=0)

    @model_validator(mode="after")
    def _overlap(self) -> LikelihoodProbe:
        if self.overlap > self.window // 2:
            raise SpecError("windows overlap too much", where="overlap", expected="at most half a window", got=self.overlap)
        return self

    def reader(self, tokenizer: Any) -> Reader:
        """Return what reads passages for a model with this tokenizer."""
        size = max(min(self.window, tokenizer.model_max_length), 2) - 1
        return Reader(beginning(tokenizer)[0], size, min(self.overlap, size // 2))


def texts_of(reference: pl.DataFrame, domains: Sequence[str]) -> dict[str, list[str]]:
    """Return the reference texts of every domain, in the domains' order.

    Raises
    ------
    SourceError
        Where a text belongs to none of them.
    """
    if unknown := sorted(set(reference["domain"].to_list()) - set(domains)):
        raise SourceError("reference texts of an unknown domain", got=unknown[0], expected=", ".join(domains))
    return {domain: reference.filter(pl.col("domain") == domain)["text"].to_list() for domain in domains}
