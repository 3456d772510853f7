"""What holds between this side and servers that speak OpenAI's completions API, and how their answers are read.

What a server offers is found out by asking. vLLM's extensions give tokens back as ids, score a prompt with the rank of every
token, weigh choices in one prefill and hold a completion to a schema; without them a prompt is scored by its echo, and choices
are made of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from composer.encode import tokens
from composer.errors import ModelError
from composer.progress import say
from probes.engines import TokenScores
from probes.engines.replicas import Ask, RefusedError

SENTENCE = "It is 7:05 pm; naïve café, Straße, Это, 知识, สวัสดี, def f(x):\n\treturn x ** 2  # 10,000"
LEAST = -9999.0  # stands for minus infinity, which JSON has not
ONLY = 7  # what a completion must be that is held to the schema {"enum": [ONLY]}


@dataclass
class Terms:
    """The model's name at the servers, its context in tokens, and which of vLLM's extensions they know.

    Every server is held to what the first one said.
    """

    tokenizer: Any
    model: str | None
    limit: int | None = None
    offers: frozenset[str] | None = None

    async def settle(self, ask: Ask) -> None:
        """Meet a server.

        Raises
        ------
        ModelError
            Where it does not hold the model, splits text otherwise, or knows other extensions than the first one.
        """
        card = await self._card(ask)
        self.model = card["id"]
        limit = card.get("max_model_len")
        self.limit = limit if self.limit is None else min(limit or self.limit, self.limit)
        await self._check_vocabulary(ask)
        offers = await self._offered(ask)
        if self.offers not in (None, offers):
            raise ModelError(
                "the servers are not alike", where="engine.base_urls", expected=f"each to give {_listed(self.offers)}",
                got=f"one that gives {_listed(offers)}", hint="serve all of them with one version of one program",
            )  # fmt: skip
        self.offers = offers

    async def _card(self, ask: Ask) -> dict[str, Any]:
        try:
            answer = await ask("models")
        except RefusedError:  # not every server lists its models
            if self.model is None:
                raise ModelError("the server lists no models", where="engine.model", hint="name the model") from None
            return {"id": self.model}
        cards = answer.get("data") if isinstance(answer, dict) else None
        known = {str(card["id"]): card for card in cards or [] if isinstance(card, dict) and "id" in card}
        if self.model in known or (self.model is None and len(known) == 1):
            return dict(known[self.model or next(iter(known))])
        what = "which of the server's models?" if self.model is None else "the server does not hold this model"
        expected = f"one of {', '.join(sorted(known))}" if known else "a server that lists a model"
        raise ModelError(what, where="engine.model", expected=expected, got=self.model or "none named")

    async def _check_vocabulary(self, ask: Ask) -> None:
        n = len(self.tokenizer)
        text = f"{self._text(range(0, n, max(1, n // 500)))} {SENTENCE}"
        try:
            answer = await ask("/tokenize", {"model": self.model, "prompt": text, "add_special_tokens": False})
        except RefusedError:
            answer = None
        theirs = answer.get("tokens") if isinstance(answer, dict) else None
        if not theirs:
            await self._check_echo(ask)
        elif theirs != (mine := split(self.tokenizer, text)):
            at = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
            few = mine[at : at + 4]
            raise self._mismatch(str(theirs[at : at + 4]), expected=f"{few} for {self._text(few)!r}")

    async def _check_echo(self, ask: Ask) -> None:
        """Where no endpoint splits text: does the server read our tokens as we mean them?"""
        mine = split(self.tokenizer, SENTENCE)
        body = {"model": self.model, "prompt": mine, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
        try:
            [choice] = choices_of(await ask("completions", body), 1)
        except RefusedError:
            choice = {}
        if len((choice.get("logprobs") or {}).get("tokens") or []) < len(mine):
            say("this server neither splits text nor repeats a prompt: whether its vocabulary is the model's cannot be seen")
        elif not _spaceless(choice["text"]).startswith(_spaceless(self._text(mine))):
            raise self._mismatch(repr(choice["text"][:60]), expected=repr(self._text(mine)[:60]))

    def _mismatch(self, got: str, *, expected: str) -> ModelError:
        hint = "serve the model that base_model names, or name the one that is served"
        return ModelError(f"the server's vocabulary is another ({self.model})", expected=expected, got=got, hint=hint)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids)))

    async def _offered(self, ask: Ask) -> frozenset[str]:
        ids = split(self.tokenizer, SENTENCE)[:2]
        wanted = {"return_token_ids": True, "prompt_logprobs": 0, **weighing(ids)}
        try:
            body = {"model": self.model, "prompt": ids, "max_tokens": 1, "temperature": 0, **wanted}
            [choice] = choices_of(await ask("completions", body), 1)
        except RefusedError:
            return frozenset()
        found = {name for name in ("token_ids", "prompt_logprobs") if choice.get(name)}
        found |= {"choices"} if _weights(choice, ids) else set()
        return frozenset(found | ({"schema"} if await self._is_held(ask, ids) else set()))

    async def _is_held(self, ask: Ask, ids: list[int]) -> bool:
        try:
            body = {"model": self.model, "prompt": ids, "max_tokens": 8, "temperature": 0, **held_to({"enum": [ONLY]})}
            [choice] = choices_of(await ask("completions", body), 1)
        except RefusedError:  # vLLM without a program for grammars
            return False
        return str(choice.get("text", "")).strip() == str(ONLY)


def split(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text, without added special tokens."""
    return list(tokens(tokenizer, [text])[0].ids)


def choices_of(answer: Any, n: int) -> list[dict[str, Any]]:
    """Return the n choices of an answer in the order of its prompts.

    Raises
    ------
    ModelError
        Where the answer is not one of a completions API.

    Examples
    --------
    >>> choices_of({"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]}, 2)[0]["text"]
    'a'
    """
    found = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(found, list) or sorted(choice.get("index", -1) for choice in found) != list(range(n)):
        expected = f"the answer of a completions API to {n} prompts"
        raise ModelError("not an answer", expected=expected, got=str(answer)[:200])
    return sorted(found, key=lambda choice: int(choice["index"]))


def scores_of(choice: dict[str, Any], ids: Sequence[int]) -> TokenScores:
    """Return the scores of a prompt, from vLLM's account of it or from its echo.

    Raises
    ------
    ModelError
        Where the answer has neither.
    """
    entries = choice.get("prompt_logprobs") or []
    if len(entries) == len(ids):
        own = [entry[str(token)] for entry, token in zip(entries[1:], ids[1:], strict=True)]
        return TokenScores(_finite([one["logprob"] for one in own]), np.array([one["rank"] == 1 for one in own], dtype=bool))
    echo = choice.get("logprobs") or {}
    logprob, best = (echo.get(name) or [] for name in ("token_logprobs", "top_logprobs"))
    if min(len(logprob), len(best)) < len(ids):
        hint = "use a server that gives them, such as vLLM, or the engine hf"
        raise ModelError("this server gives no log-probabilities of a prompt", hint=hint)
    top = [one >= max(few.values()) for one, few in zip(logprob[1 : len(ids)], best[1 : len(ids)], strict=True)]
    return TokenScores(_finite(logprob[1 : len(ids)]), np.array(top, dtype=bool))


def held_to(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what vLLM must be asked for so that a completion is JSON of the schema."""
    return {"structured_outputs": {"json": dict(schema)}}


def weighing(choices: Sequence[int]) -> dict[str, Any]:
    """Return what vLLM must be asked for so that it weighs these tokens as the next one."""
    return {"logprobs": 1, "logprob_token_ids": list(choices), "return_tokens_as_token_ids": True}


def weights_of(choice: dict[str, Any], choices: Sequence[int]) -> np.ndarray:
    """Return how likely each token was as the next one: natural log-probabilities, float64 (choices,).

    Raises
    ------
    ModelError
        Where the server did not weigh them all.
    """
    found = _weights(choice, choices)
    if found is None:
        raise ModelError("the server did not weigh the choices", expected=f"{len(choices)} log-probabilities")
    return _finite(found)


def _weights(choice: dict[str, Any], choices: Sequence[int]) -> list[float] | None:
    [found, *_] = (choice.get("logprobs") or {}).get("top_logprobs") or [None]
    names = [f"token_id:{token}" for token in choices]
    return [found[name] for name in names] if found and all(name in found for name in names) else None


def _finite(values: Sequence[float]) -> np.ndarray:
    logprob = np.array(values, dtype=np.float64)
    if (logprob > 1e-4).any():
        hint = "start the server with --logprobs-mode raw_logprobs"
        raise ModelError("what the server gives are no log-probabilities", got=float(logprob.max()), hint=hint)
    return np.where(logprob <= LEAST, -np.inf, logprob)


def _spaceless(text: str) -> str:
    return "".join(text.split())


def _listed(offers: frozenset[str] | None) -> str:
    return ", ".join(sorted(offers or ())) or "no extensions"
