"""Batched sampling and scoring with a causal language model of transformers.

Nothing is padded on the left: the rows of a batch walk through their positions together. While one row is still inside its
prompt its next token is given, and the token of a row that is past its prompt is drawn; so every row of a batch has the same
position at all times, which suits any architecture that keeps a cache.

The random number of a draw belongs to (seed, prompt, step) alone, so batch sizes change the speed and not the texts, up to the
rounding of the model's own arithmetic: a matrix product of another shape may differ in its last bits. On a small random model
in float32 one draw in fourteen thousand fell otherwise; in bfloat16 many would, in float64 none was seen to.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import FaultError, ModelError
from composer.progress import bar
from composer.spec import rng
from probes.engines import Completion, TokenScores
from probes.engines.asked import Limits, check_completion

if TYPE_CHECKING:
    import torch


class CausalSession:
    """An open transformers model; see :class:`probes.engines.Session`."""

    def __init__(self, model: Any, tokenizer: Any, *, batch_tokens: int) -> None:
        self._model: Any = model
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        taken = inspect.signature(base.forward).parameters
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
        self._cache = "cache" if "cache" in taken else "past_key_values"  # renamed in transformers 5.24
        self.n_positions = getattr(base.config.get_text_config(), "max_position_embeddings", None)
        self._mixture: Any = getattr(model, "mixture", None)  # of LoRAs, which chooses one for every prompt
        self.routes = self._mixture is not None
        self.experts: tuple[str, ...] = () if self._mixture is None else tuple(self._mixture.bank.names)
        self._limits = Limits(base.get_input_embeddings().num_embeddings, self.n_positions)
        self._ends = _end_ids(tokenizer, base)

    def close(self) -> None:
        """Let go of the model."""
        self._model = self._mixture = None

    def complete(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float = 1.0, seed: int
    ) -> list[Completion]:
        """Continue every prompt until an end token or ``max_new_tokens``, from the whole distribution: no top-k and no top-p.

        With u uniform in (0, 1] for (seed, prompt index, step), the token is the first whose cumulative probability, in float64
        and in the order of the vocabulary, reaches u. Temperature 0 takes the most likely token.

        Raises
        ------
        InputError, ModelError
            For an empty prompt, a token outside the vocabulary, more tokens than the model has positions for, a negative
            temperature, or a model without finite scores.
        """
        check_completion(max_new_tokens=max_new_tokens, temperature=temperature)
        self._limits.check(prompts, more=max_new_tokens)
        new: list[list[int]] = [[]] * len(prompts)
        with bar("completing", total=len(prompts), unit="prompts") as shown:
            for rows in batches([len(prompt) + max_new_tokens for prompt in prompts], self.batch_tokens):
                uniforms = 1 - np.stack([rng(seed, "complete", row).random(max_new_tokens) for row in rows])
                made = self._continue([prompts[row] for row in rows], uniforms=uniforms, temperature=temperature)
                for row, ids in zip(rows, made, strict=True):
                    new[row] = ids
                shown.advance(len(rows))
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in new]
        return [Completion(tuple(ids), text, ids[-1] in self._ends) for ids, text in zip(new, texts, strict=True)]

    def score(self, sequences: Sequence[Sequence[int]], *, heads: Sequence[int] | None = None) -> list[TokenScores]:
        """Return per sequence of n tokens the n - 1 log-probabilities (nats) and whether each token was the most likely.

        ``heads`` are how many first tokens of each are its prompt, for a model that chooses its experts by it; else all are.

        Raises
        ------
        InputError, ModelError
            For an empty sequence, a token outside the vocabulary, more tokens than the model has positions for, or a model
            without finite scores.
        """
        self._limits.check(sequences)
        scores: list[TokenScores | None] = [None] * len(sequences)
        with bar("scoring", total=len(sequences), unit="sequences") as shown:
            for rows in batches([len(sequence) for sequence in sequences], self.batch_tokens):
                own = [sequences[row] for row in rows]
                routed = self.route([sequences[row][: heads[row]] for row in rows] if heads else own)
                for row, score in zip(rows, self._read(own, routed=routed), strict=True):
                    scores[row] = score
                shown.advance(len(rows))
        return [score for score in scores if score is not None]

    def choose(self, prompts: Sequence[Sequence[int]], choices: Sequence[int]) -> np.ndarray:
        """Return natural log-probabilities, float64 (prompts, choices), of the choices as the next token.

        Raises
        ------
        InputError, ModelError
            For no choices or the same one twice, and as :meth:`score` does.
        """
        self._limits.check_choices(choices)
        self._limits.check(prompts)
        out = np.zeros((len(prompts), len(choices)))
        n_shared = 0 if self.routes else _shared(prompts)  # prompts of several experts have no beginning in common
        begun = self._begin(prompts[0][:n_shared]) if n_shared else None
        with bar("choosing", total=len(prompts), unit="prompts") as shown:
            for rows in batches([len(prompt) for prompt in prompts], self.batch_tokens):
                ends = [prompts[row][n_shared:] for row in rows]
                for row, own in zip(rows, self._logits(ends, begun=begun, routed=self.route(ends)), strict=True):
                    out[row] = own[-1].log_softmax(-1)[list(choices)].double().cpu().numpy()
                shown.advance(len(rows))
        return out

    def _continue(self, prompts: list[Sequence[int]], *, uniforms: np.ndarray, temperature: float) -> list[list[int]]:
        import torch

        new: list[list[int]] = [[] for _ in prompts]
        alive = list(range(len(prompts)))
        position = min(map(len, prompts))
        tokens = self._tensor([list(prompt[:position]) for prompt in prompts])
        cache, routed = None, self.route(prompts)
        while alive:
            logits, cache = self._step(tokens, cache, routed=None if routed is None else routed.of(alive))
            steps = [max(position - len(prompts[row]), 0) for row in alive]
            drawn = draw(logits, self._tensor(uniforms[alive, steps]), temperature=temperature)
            keep, tokens_next = [], []
            for k, row in enumerate(alive):
                given = position < len(prompts[row])
                token = int(prompts[row][position]) if given else drawn[k]
                if not given:
                    new[row].append(token)
                if given or not (token in self._ends or len(new[row]) == uniforms.shape[1]):
                    keep.append(k)
                    tokens_next.append([token])
            if 0 < len(keep) < len(alive):
                cache.reorder_cache(torch.tensor(keep))
            alive = [alive[k] for k in keep]
            tokens = self._tensor(tokens_next)
            position += 1
        return new

    def route(self, prompts: Sequence[Sequence[int]]) -> Any:
        """Return which experts the whole prompts are given to, where the model has several."""
        return None if self._mixture is None else self._mixture.route(prompts)

    def _step(self, tokens: torch.Tensor, cache: Any, *, routed: Any = None) -> tuple[torch.Tensor, Any]:
        import torch

        if routed is not None:
            self._mixture.take(routed.experts)
        with torch.inference_mode():
            out = self._open()(input_ids=tokens, use_cache=True, **{self._cache: cache}, **self._last)
        kept = getattr(out, self._cache, None)
        if kept is None:
            raise ModelError("the model keeps no key-value cache", got=type(self._model).__name__)
        return out.logits[:, -1], kept

    def _read(self, sequences: list[Sequence[int]], *, routed: Any = None) -> list[TokenScores]:
        scores = []
        for own, sequence in zip(
            self._logits(sequences, routed=routed), sequences, strict=True
        ):  # one row at a time: the vocabulary is wide
            target = self._tensor(list(sequence[1:]))
            logprob = own[:-1].log_softmax(-1).gather(-1, target[:, None]).squeeze(-1).double()
            scores.append(TokenScores(logprob.cpu().numpy(), (own[:-1].argmax(-1) == target).cpu().numpy()))
        return scores

    def _begin(self, ids: Sequence[int]) -> Any:
        """Return the cache of a beginning that several prompts share."""
        return self._step(self._tensor([list(ids)]), None)[1]

    def _logits(self, sequences: list[Sequence[int]], *, begun: Any = None, routed: Any = None) -> Iterator[torch.Tensor]:
        """Yield the logits behind every token of each sequence, (n, vocabulary), in float32 or better.

        ``begun`` is the cache of what stands before all of them; it is left as it is.
        """
        import torch

        width = max(map(len, sequences))
        # Causal attention never looks ahead, so what stands behind a sequence's end needs no mask.
        ids = self._tensor([[*sequence, *[0] * (width - len(sequence))] for sequence in sequences])
        before: dict[str, Any] = {"use_cache": False}
        if begun is not None:
            before = {"use_cache": True, self._cache: copy.deepcopy(begun)}
            before[self._cache].reorder_cache(torch.zeros(len(sequences), dtype=torch.int64, device=ids.device))
        if routed is not None:
            self._mixture.take(routed.experts)
        with torch.inference_mode():
            logits = self._open()(input_ids=ids, **before).logits
        exact = torch.promote_types(logits.dtype, torch.float32)
        for row, sequence in enumerate(sequences):
            own = logits[row, : len(sequence)].to(exact)
            _check_scores(own)
            yield own

    def _open(self) -> Any:
        if self._model is None:
            raise FaultError("the session is closed", hint="use it inside its with block")
        return self._model

    def _tensor(self, values: Any) -> torch.Tensor:
        import torch

        return torch.as_tensor(values, device=self._open().device)


def draw(logits: torch.Tensor, uniforms: torch.Tensor, *, temperature: float) -> list[int]:
    """Draw one token per row of ``logits`` (rows, vocabulary) by inverse CDF; ``uniforms`` (rows,) lie in (0, 1].

    Raises
    ------
    ModelError
        Where the scores are not finite.

    Examples
    --------
    >>> import torch
    >>> thirds = torch.log(torch.tensor([[1.0, 0.0, 2.0]] * 3))
    >>> draw(thirds, torch.tensor([0.2, 0.4, 1.0], dtype=torch.float64), temperature=1.0)
    [0, 2, 2]
    """
    import torch

    _check_scores(logits)
    if temperature == 0:
        return [int(token) for token in logits.argmax(-1).tolist()]
    mass = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
    # u in (0, 1] and the first token that reaches it: a token of probability zero is never met
    found = torch.searchsorted(mass, uniforms[:, None] * mass[:, -1:])
    return [int(token) for token in found.squeeze(1).tolist()]


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield the indices in batches of like length, the longest first; rows times the longest stay within ``budget``.

    Examples
    --------
    >>> list(batches([2, 5, 3, 9], 8))
    [[3], [1], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        n = max(1, budget // max(1, lengths[order[0]]))
        yield order[:n]
        order = order[n:]


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many first tokens all prompts share, and at least one token each has besides."""
    if len(prompts) < 2:
        return 0
    n = 0
    for column in zip(*prompts, strict=False):
        if len(set(column)) > 1:
            break
        n += 1
    return min(n, min(map(len, prompts)) - 1)


def _check_scores(logits: torch.Tensor) -> None:
    if logits.isnan().any():
        raise ModelError("the model's scores are not finite", hint="try dtype float32")


def _end_ids(tokenizer: Any, model: Any) -> frozenset[int]:
    """The tokens that end a text, as the tokenizer and the model's generation settings name them."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ends = named if isinstance(named, list) else [named]
    return frozenset(int(token) for token in [*ends, tokenizer.eos_token_id] if token is not None)
