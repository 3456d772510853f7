"""A session with a model that servers hold: token ids go out, and what comes back is exact wherever the server can be.

A sample is a request of its own, since a seed belongs to a request; where nothing is drawn a request holds a batch. From a
server without vLLM's extensions the ids of a completion are those of its text, which may have been written in other pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from composer.errors import ModelError
from composer.progress import bar
from composer.spec import seed_of
from probes.engines import Completion, TokenScores
from probes.engines.asked import Limits, check_completion
from probes.engines.replicas import Replicas
from probes.engines.terms import Terms, choices_of, held_to, scores_of, split, weighing, weights_of

MAX_WEIGHED = 128  # vLLM weighs no more tokens at once

# A server draws as the model's own generation settings say, unless it is told otherwise.
WHOLE: dict[str, Any] = {"top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
WHOLE_EXTENDED: dict[str, Any] = {"top_k": 0, "min_p": 0, "repetition_penalty": 1, "return_token_ids": True}
NOTHING_DRAWN: dict[str, Any] = {"max_tokens": 1, "temperature": 0}


class ServedSession:
    """A model behind HTTP; see :class:`probes.engines.Session`."""

    def __init__(self, replicas: Replicas, terms: Terms, *, batch_size: int) -> None:
        self.tokenizer = terms.tokenizer
        self._replicas, self._terms, self._batch_size = replicas, terms, batch_size
        self._offers = terms.offers or frozenset()
        self._n_vocabulary = max(terms.tokenizer.get_vocab().values()) + 1
        self._end = terms.tokenizer.eos_token_id

    @property
    def structured(self) -> bool:
        """Whether completions can be held to a JSON schema."""
        return "schema" in self._offers

    @property
    def n_positions(self) -> int | None:
        """How many tokens a sequence may have, as far as the servers tell."""
        return self._terms.limit

    @property
    def _limits(self) -> Limits:
        return Limits(self._n_vocabulary, self.n_positions)

    def complete(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float = 1.0, seed: int,
        schema: Mapping[str, Any] | None = None,
    ) -> list[Completion]:  # fmt: skip
        """Continue every prompt until an end token or ``max_new_tokens``, from the whole distribution: no top-k and no top-p.

        Every prompt has a seed of its own, so that neither batches nor replicas bear on the texts, up to the rounding of the
        server's arithmetic. Temperature 0 takes the most likely token. With a ``schema`` the text is JSON of it, as far as the
        tokens reach.

        Raises
        ------
        InputError, ModelError, FaultError
            For input that no model takes, a request that the server refuses, or servers that are gone for too long.
        """
        check_completion(max_new_tokens=max_new_tokens, temperature=temperature)
        self._limits.check(prompts, more=max_new_tokens)
        wanted = {"max_tokens": max_new_tokens, "temperature": temperature, **WHOLE, **(WHOLE_EXTENDED if self._offers else {})}
        if self._offers and self._end is not None:
            wanted["stop_token_ids"] = [self._end]
        if schema is not None:
            wanted |= self._held_to(schema)
        batches = _chunks(range(len(prompts)), 1 if temperature else self._batch_size)
        seeds: list[dict[str, Any]] = [{"seed": seed_of(seed, "complete", rows[0])} if temperature else {} for rows in batches]
        made = self._asked("completing", prompts, batches, [wanted | own for own in seeds])
        return [self._completion(choice, max_new_tokens) for choice in made]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        """Return per sequence of n tokens the n - 1 log-probabilities (nats) and whether each token was the most likely.

        Raises
        ------
        InputError, ModelError, FaultError
            As :meth:`complete`, and where the server gives no log-probabilities of a prompt.
        """
        self._limits.check(sequences)
        # A server wants room for one token more: what fills the context is read without its last token, which is weighed after.
        room = None if self._terms.limit is None else self._terms.limit - 1
        cut = [list(ids[:room]) for ids in sequences]
        rows = [i for i, ids in enumerate(cut) if len(ids) > 1]
        wanted = {"prompt_logprobs": 0} if "prompt_logprobs" in self._offers else {"echo": True, "logprobs": 1}
        batches = _chunks(rows, self._batch_size)
        read = self._asked("scoring", cut, batches, [NOTHING_DRAWN | wanted] * len(batches))
        scores = [TokenScores(np.zeros(0), np.zeros(0, dtype=bool))] * len(cut)
        for row, choice in zip(rows, read, strict=True):
            scores[row] = scores_of(choice, cut[row])
        return [self._with_last(scores[i], ids) if len(cut[i]) < len(ids) else scores[i] for i, ids in enumerate(sequences)]

    def choose(self, prompts: Sequence[Sequence[int]], choices: Sequence[int]) -> np.ndarray:
        """Return natural log-probabilities, float64 (prompts, choices), of the choices as the next token.

        Raises
        ------
        InputError, ModelError, FaultError
            For no choices or the same one twice, and as :meth:`score` does.
        """
        self._limits.check_choices(choices)
        self._limits.check(prompts, more=1)
        if "choices" not in self._offers:
            scores = self.score([[*prompt, choice] for prompt in prompts for choice in choices])
            return np.array([score.logprob[-1] for score in scores]).reshape(len(prompts), len(choices))
        out = np.zeros((len(prompts), len(choices)))
        for columns in _chunks(range(len(choices)), MAX_WEIGHED):
            some = [choices[column] for column in columns]
            for row, choice in enumerate(self._weighed(prompts, some)):
                out[row, columns] = weights_of(choice, some)
        return out

    def _held_to(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        if not self.structured:
            raise ModelError("the server holds no completion to a schema", hint="serve the model with vLLM, or ask without one")
        return held_to(schema)

    def _weighed(self, prompts: Sequence[Sequence[int]], choices: list[int]) -> list[dict[str, Any]]:
        batches = _chunks(range(len(prompts)), self._batch_size)
        wanted = {**NOTHING_DRAWN, **weighing(choices), "return_token_ids": True}
        return self._asked("choosing", prompts, batches, [wanted] * len(batches))

    def _with_last(self, scores: TokenScores, ids: Sequence[int]) -> TokenScores:
        """Add the last token of a sequence that fills the context."""
        if "choices" not in self._offers:
            raise ModelError("the server reads no whole context", expected=f"at most {len(ids) - 1} tokens", got=len(ids))
        [choice] = self._weighed([ids[:-1]], [ids[-1]])
        last = weights_of(choice, [ids[-1]])
        return TokenScores(np.append(scores.logprob, last), np.append(scores.top, choice["token_ids"][0] == ids[-1]))

    def _asked(
        self, label: str, prompts: Sequence[Sequence[int]], batches: list[list[int]], wanted: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Send batches of prompts, each with what is wanted of it, and return a choice per prompt in their order."""
        answers: list[list[dict[str, Any]]] = [[]] * len(batches)
        bodies = (
            {"model": self._terms.model, "prompt": [list(prompts[row]) for row in rows], **own}
            for rows, own in zip(batches, wanted, strict=True)
        )
        with bar(label, total=sum(map(len, batches)), unit="prompts") as shown:

            def take(i: int, answer: Any) -> None:
                answers[i] = choices_of(answer, len(batches[i]))
                shown.advance(len(batches[i]))

            self._replicas.ask_all("completions", bodies, take)
        return [choice for answer in answers for choice in answer]

    def _completion(self, choice: dict[str, Any], max_new_tokens: int) -> Completion:
        finished = choice.get("finish_reason") == "stop"
        if "token_ids" not in self._offers:
            text = str(choice.get("text", ""))
            end = [self._end] if finished and self._end is not None else []
            return Completion((*split(self.tokenizer, text), *end), text, finished)
        ids = tuple(choice["token_ids"])
        if not finished and len(ids) < max_new_tokens:
            hint = "see what the server's generation config says of max_new_tokens"
            raise ModelError("the server cut a completion", expected=f"{max_new_tokens} tokens", got=len(ids), hint=hint)
        return Completion(ids, self.tokenizer.decode(list(ids), skip_special_tokens=True), finished)


def _chunks(rows: Sequence[int], size: int) -> list[list[int]]:
    return [list(rows[at : at + size]) for at in range(0, len(rows), size)]
