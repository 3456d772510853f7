"""What a probe sees of vLLM: a session that checks what it is asked, and asks the child."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from composer.errors import FaultError, InputError, ModelError
from composer.progress import bar
from composer.spec import seed_of
from probes.engines import Completion, TokenScores
from probes.engines.asked import Limits, check_completion
from probes.engines.vllm_child.process import Child

MAX_SEQUENCES, MAX_TOKENS = 65_536, 4_000_000
"""What one job holds at most, so that memory stays bounded; so much that vLLM hardly ever runs dry in between."""
MAX_CHOICES = 128
"""The choices that vLLM weighs at once."""


class VllmSession:
    """A model that is open in vLLM; see :class:`probes.engines.Session`."""

    def __init__(self, child: Child, tokenizer: Any, *, facts: Mapping[str, Any], n_experts: int = 0) -> None:
        self._child: Child | None = child
        self.structured, self._n_experts = True, n_experts
        self.tokenizer = tokenizer
        self.n_positions: int = facts["positions"]
        self._limits = Limits(facts["vocabulary"], facts["positions"])
        self._ends = frozenset(token for token in [*facts["ends"], tokenizer.eos_token_id] if token is not None)

    def close(self) -> None:
        """Let go of the child."""
        self._child = None

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        seed: int,
        schema: Mapping[str, Any] | None = None,
        experts: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Continue every prompt until an end token or ``max_new_tokens``, from the whole distribution: no top-k and no top-p.

        A prompt's draws belong to (seed, prompt index), so how many are asked for at once does not change the texts, up to the
        rounding of the model's own arithmetic. Temperature 0 takes the most likely token. With a JSON schema no token is drawn
        that leads out of it, so that a text that ended is a value of it; its strings may hold control characters as they are.
        Of a mixture, ``experts`` are the numbers of those that answer, -1 for the base alone.

        Raises
        ------
        InputError, ModelError
            For an empty prompt, a token outside the vocabulary, more tokens than the model has positions for, or a temperature
            that vLLM has not.
        FaultError
            Where the child ends in the middle.
        """
        check_completion(max_new_tokens=max_new_tokens, temperature=temperature)
        if temperature and not 0.01 <= temperature <= 2:
            raise InputError("vLLM has no such temperature", expected="0, or 0.01 to 2", got=temperature)
        self._limits.check(prompts, more=max_new_tokens)
        self._check_experts(experts, len(prompts))
        job = {"max_new_tokens": max_new_tokens, "temperature": temperature, "ends": sorted(self._ends), "schema": schema}
        seeds = [seed_of(seed, "complete", row) for row in range(len(prompts))]
        each: dict[str, Sequence[Any]] = {"seeds": seeds, **({} if experts is None else {"experts": list(map(int, experts))})}
        new = self._ask("complete", prompts, job, "completing", each=each)
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in new]
        return [Completion(tuple(ids), text, ids[-1] in self._ends) for ids, text in zip(new, texts, strict=True)]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        """Return per sequence of n tokens the n - 1 log-probabilities (nats) and whether no token was likelier than each.

        Raises
        ------
        InputError, ModelError
            For an empty sequence, a token outside the vocabulary, more tokens than the model has positions for, or a model
            without finite scores.
        FaultError
            Where the child ends in the middle.
        """
        self._limits.check(sequences)
        self._check_experts(None, len(sequences))
        scored = [ids for ids in sequences if len(ids) > 1]
        found = iter(self._ask("score", scored, {}, "scoring"))
        pairs = [next(found) if len(ids) > 1 else ([], []) for ids in sequences]
        return [TokenScores(_finite(own), np.array(top, dtype=bool)) for own, top in pairs]

    def choose(self, prompts: Sequence[Sequence[int]], choices: Sequence[int]) -> np.ndarray:
        """Return natural log-probabilities, float64 (prompts, choices), of the choices as the next token.

        Raises
        ------
        InputError, ModelError
            For no choices or the same one twice, for a prompt without room for one more token, and as :meth:`score` does.
        FaultError
            Where the child ends in the middle.
        """
        self._limits.check_choices(choices)
        self._limits.check(prompts, more=1)
        self._check_experts(None, len(prompts))
        parts = []
        for first in range(0, len(choices), MAX_CHOICES):
            job = {"choices": list(choices[first : first + MAX_CHOICES])}
            found = self._ask("choose", prompts, job, "choosing")
            parts.append(_finite(found).reshape(len(prompts), len(job["choices"])))
        return np.concatenate(parts, axis=1)

    def _check_experts(self, experts: Sequence[int] | None, n: int) -> None:
        if (experts is None) == bool(self._n_experts) and n:
            if experts is not None:
                raise ModelError("the model has no experts", where="engine")
            hint = "use the engine hf, or sft-composer generate"
            raise ModelError("a mixture of LoRAs does not choose its experts in vLLM", where="engine", hint=hint)
        if experts is not None and not (len(experts) == n and all(-1 <= each < self._n_experts for each in experts)):
            raise InputError("no such experts", expected=f"{n} numbers from -1 to {self._n_experts - 1}", got=str(experts)[:80])

    def _ask(
        self,
        task: str,
        sequences: Sequence[Sequence[int]],
        job: Mapping[str, Any],
        label: str,
        *,
        each: Mapping[str, Sequence[Any]] | None = None,
    ) -> list[Any]:
        """Return the child's answer for every sequence; ``each`` holds what a job says of every sequence."""
        if self._child is None:
            raise FaultError("the session is closed", hint="use it inside its with block")
        values: list[Any] = [None] * len(sequences)
        with bar(label, total=len(sequences), unit="sequences") as shown:
            for part in portions([len(ids) for ids in sequences]):
                own = {name: column[part] for name, column in (each or {}).items()}
                asked = [list(map(int, ids)) for ids in sequences[part]]
                message = {"do": task, "sequences": asked, **job, **own}
                with closing(self._child.ask(message, answers=len(asked))) as answers:
                    for row, value in answers:
                        values[part.start + row] = value
                        shown.advance()
        return values


def portions(lengths: Sequence[int], *, most: int = MAX_SEQUENCES, tokens: int = MAX_TOKENS) -> Iterator[slice]:
    """Yield the stretches of at most ``most`` sequences and ``tokens`` tokens; a longer sequence stands alone.

    Examples
    --------
    >>> [(part.start, part.stop) for part in portions([3, 3, 3, 9, 1, 1, 1], most=2, tokens=6)]
    [(0, 2), (2, 3), (3, 4), (4, 6), (6, 7)]
    """
    first = held = 0
    for i, length in enumerate(lengths):
        if i > first and (i - first == most or held + length > tokens):
            yield slice(first, i)
            first, held = i, 0
        held += length
    if first < len(lengths):
        yield slice(first, len(lengths))


def _finite(values: Any) -> np.ndarray:
    found = np.array(values, dtype=np.float64)
    if np.isnan(found).any():
        raise ModelError("the model's scores are not finite", hint="try dtype float32")
    return found
