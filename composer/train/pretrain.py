"""A small base language model made on the spot, of a mixture that is known to the document.

Whoever measures what a model knows needs one whose answer is known. Documents are drawn with exact counts per domain, in random
order, packed into rows, and read once by a small Llama on the CPU. Every row begins with a document, and which one does not
depend on its length: what a model writes from nothing is asked for at that very place, so its shares must be learnt there. The
loop is its own: a Trainer would have nothing to decide here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from composer.apportion import apportion
from composer.errors import FaultError, SourceError, SpecError, nearest
from composer.fingerprint import write_json
from composer.progress import bar
from composer.spec import Spec, outside_identity, rng, seed_of
from composer.train.isolated import isolated
from composer.train.tokenizer import SMALLEST, learn

if TYPE_CHECKING:
    from torch import Tensor

HEAD_DIMS = (32, 64, 80, 96, 112, 128, 192, 256)  # those that vLLM has attention for on a CPU
PILOT = 1000  # documents from which the tokenizer is learnt and the mean length is taken
POSITIONS = 512  # what the model can read at least, however short its rows
WARMUP, DECAY, CLIP = 0.03, 0.01, 1.0


class Base(Spec):
    """A small Llama and what it reads.

    ``weights`` are parts of the documents and need not sum to one; what a domain got is reported as its share. Either
    ``documents`` says how many are read, or ``tokens`` about how many tokens they come to. ``vocab`` is an upper bound,
    ``context`` the length of a row. The learning rate rises over 3 % of the steps and falls to zero as a cosine.
    """

    weights: dict[str, float]
    tokens: int | None = Field(default=None, ge=1)
    documents: int | None = Field(default=None, ge=1)
    hidden: int = Field(default=128, ge=1)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    intermediate: int = Field(default=256, ge=1)
    vocab: int = Field(default=1280, ge=SMALLEST)
    context: int = Field(default=128, ge=2)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0, allow_inf_nan=False)
    threads: int | None = outside_identity(None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Base:
        if self.hidden % self.heads or self.hidden // self.heads not in HEAD_DIMS:
            expected = f"hidden / heads in {', '.join(map(str, HEAD_DIMS))}"
            raise SpecError(
                "no engine runs heads of this size", where="heads", expected=expected, got=f"{self.hidden}/{self.heads}"
            )
        if (self.tokens is None) == (self.documents is None):
            raise SpecError("how much to read is said once", where="tokens", expected="either tokens or documents")
        shares = list(self.weights.values())
        if not all(math.isfinite(share) and share >= 0 for share in shares) or not sum(shares) > 0:
            raise SpecError("weights must not be negative, and not all zero", where="weights", got=self.weights)
        return self


@dataclass(frozen=True)
class _Draw:
    """Drawn documents in reading order: ``domain`` numbers of shape (n,) beside their texts, and ``counts`` per domain."""

    domain: np.ndarray
    texts: list[str]
    counts: np.ndarray


def pretrain(documents: Mapping[str, Sequence[str]], *, spec: Base, seed: int, folder: Path) -> dict[str, Any]:
    """Make a base model from documents by domain and write it as ``folder/model``, with ``folder/base.json`` beside it.

    A domain that runs short is read again in a new order. The tokenizer is learnt from a draw of the same shares, of at most
    1000 documents and not more than there are.

    Returns
    -------
    dict
        ``n_documents``, ``n_tokens`` of them and ``n_read`` that were predicted, ``steps``, ``parameters``, ``vocab``,
        ``loss_last`` (token mean in nats over the last tenth of the steps) and for each of ``domains`` its documents and
        tokens, their shares, and ``repeats``: documents beyond what the domain has.

    Raises
    ------
    SourceError
        Where a domain with a share has no documents.
    FaultError
        Where the loss is not finite.
    """
    _check_documents(documents, spec)
    supply = sum(len(documents[name]) for name, share in spec.weights.items() if share)
    pilot = _draw(documents, spec, n=min(spec.documents or supply, supply, PILOT), seed=seed)
    tokenizer = learn(pilot.texts, vocab=spec.vocab)
    n = spec.documents or _n_documents(pilot, spec, tokenizer=tokenizer)
    draw = _draw(documents, spec, n=n, seed=seed)
    stream, lengths = _tokens(draw.texts, tokenizer=tokenizer)
    with isolated(seed_of(seed, "pretrain"), threads=spec.threads):
        model = _model(spec, tokenizer=tokenizer)
        losses, n_read = _fit(model, stream, lengths, spec)
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
    stats = {
        "n_documents": n,
        "n_tokens": len(stream),
        "n_read": n_read,
        "steps": len(losses),
        "parameters": model.num_parameters(),
        "vocab": len(tokenizer),
        "loss_last": float(np.mean(losses[-math.ceil(len(losses) / 10) :])),
        "domains": _shares(draw, lengths, documents, spec),
    }
    write_json(folder / "base.json", {"spec": spec, "stats": stats})
    return stats


def _check_documents(documents: Mapping[str, Sequence[str]], spec: Base) -> None:
    for domain, share in spec.weights.items():
        if domain not in documents:
            raise SourceError("no such domain", where=f"weights.{domain}", hint=nearest(domain, documents))
        if share and not documents[domain]:
            raise SourceError("a domain with a share has no documents", where=f"weights.{domain}", got=share)


def _draw(documents: Mapping[str, Sequence[str]], spec: Base, *, n: int, seed: int) -> _Draw:
    """Draw ``n`` documents with exact counts per domain; a smaller draw of a domain is the beginning of a larger one."""
    counts = apportion(list(spec.weights.values()), n)
    domain = rng(seed, "pretrain", "order").permutation(np.repeat(np.arange(len(counts)), counts))
    texts = [
        _pick(documents[name], n=int(count), seed=seed, name=name) for name, count in zip(spec.weights, counts, strict=True)
    ]
    return _Draw(domain, [next(texts[k]) for k in domain], counts)


def _pick(texts: Sequence[str], *, n: int, seed: int, name: str) -> Iterator[str]:
    passes = (rng(seed, "pretrain", name, i).permutation(len(texts)) for i in range(math.ceil(n / max(1, len(texts)))))
    return (texts[i] for order in passes for i in order)


def _n_documents(pilot: _Draw, spec: Base, *, tokenizer: Any) -> int:
    _, lengths = _tokens(pilot.texts, tokenizer=tokenizer)
    means = np.bincount(pilot.domain, lengths, minlength=len(spec.weights)) / np.maximum(pilot.counts, 1)
    weights = np.asarray(list(spec.weights.values()))
    return max(1, round((spec.tokens or 0) / float(means @ weights / weights.sum())))


def _tokens(texts: Sequence[str], *, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the stream ``<s> text </s> <s> text </s> ...`` (int64) and the length of each text in it."""
    parts: list[np.ndarray] = []
    with bar("tokenise", total=len(texts), unit="documents") as shown:
        for i in range(0, len(texts), 1000):
            for encoding in tokenizer.backend_tokenizer.encode_batch(texts[i : i + 1000], add_special_tokens=False):
                parts.append(np.array([tokenizer.bos_token_id, *encoding.ids, tokenizer.eos_token_id]))
            shown.advance(min(1000, len(texts) - i))
    return np.concatenate(parts), np.array([len(part) for part in parts])


def _model(spec: Base, *, tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=spec.hidden, intermediate_size=spec.intermediate, num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads, num_key_value_heads=spec.heads, max_position_embeddings=max(POSITIONS, spec.context),
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def _fit(model: Any, stream: np.ndarray, lengths: np.ndarray, spec: Base) -> tuple[list[float], int]:
    """Read the stream's rows once and return the token mean of every step and how many tokens were predicted."""
    import torch
    from torch.nn.functional import cross_entropy

    inputs, targets = _rows(stream, lengths, context=spec.context)
    n_read = int((targets >= 0).sum())
    starts = range(0, len(inputs), spec.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=DECAY, fused=True)
    losses: list[float] = []
    model.train()
    with bar("pretrain", total=n_read, unit="tokens") as shown:
        for step, start in enumerate(starts):
            optimizer.param_groups[0]["lr"] = spec.learning_rate * _rate(step, steps=len(starts))
            ids, wanted = inputs[start : start + spec.batch_size], targets[start : start + spec.batch_size]
            logits = model(input_ids=ids, use_cache=False).logits
            loss = cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=-100)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise FaultError(f"the loss is {losses[-1]}", where=f"step {step}", hint="lower learning_rate")
            shown.advance(int((wanted >= 0).sum()))
    return losses, n_read


def _rows(stream: np.ndarray, lengths: np.ndarray, *, context: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of shape (rows, context); the stream's end leaves targets of -100.

    A row is the stream from the beginning of a document on; the next row begins with the first document that begins after it:
    what of a row's last document does not fit is left out.
    """
    import torch

    begins = np.cumsum(lengths) - lengths
    starts, k = [], 0
    while k < len(begins):
        starts.append(int(begins[k]))
        k = int(np.searchsorted(begins, starts[-1] + context))
    n = len(starts) * context
    inputs, targets = np.zeros(n, dtype=np.int64), np.full(n, -100, dtype=np.int64)
    for row, start in enumerate(starts):
        piece = stream[start : start + context + 1]
        inputs[row * context : row * context + len(piece) - 1] = piece[:-1]
        targets[row * context : row * context + len(piece) - 1] = piece[1:]
    return torch.from_numpy(inputs.reshape(-1, context)), torch.from_numpy(targets.reshape(-1, context))


def _rate(step: int, *, steps: int) -> float:
    """Return the learning rate's factor: a straight rise to one, then half a cosine to zero."""
    warmup = math.ceil(WARMUP * steps)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _shares(draw: _Draw, lengths: np.ndarray, documents: Mapping[str, Sequence[str]], spec: Base) -> dict[str, Any]:
    tokens = np.bincount(draw.domain, lengths, minlength=len(spec.weights))
    return {
        name: {
            "n_documents": int(draw.counts[k]),
            "document_share": float(draw.counts[k] / draw.counts.sum()),
            "n_tokens": int(tokens[k]),
            "token_share": float(tokens[k] / tokens.sum()),
            "repeats": max(0, int(draw.counts[k]) - len(documents[name])),
        }
        for k, name in enumerate(spec.weights)
    }
