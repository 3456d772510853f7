"""Bits per byte of held-out text: a cheap second view of what a model knows, which needs no judge and writes nothing.

Bytes, because tokens of one domain hold more text than those of another, and one model's more than another's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from composer.errors import SourceError
from composer.fingerprint import write_json
from composer.spec import digest, rng
from composer.tables import Schema, write
from composer.types import KnowledgeDistribution
from probes.cost import Counts
from probes.engines import Session
from probes.knowledge.bootstrap import distribution, resampled, spread
from probes.knowledge.likelihood import LikelihoodProbe, Passage, beginning, texts_of, tokenise

TEXT: Schema = {
    "domain": pl.String,
    "text_id": pl.String,  # 16 hex digits of the text
    "n_tokens": pl.UInt32,  # that were judged
    "n_bytes": pl.UInt64,  # of those tokens
    "bits": pl.Float64,
    "cut": pl.Boolean,  # whether the text goes on
}

_LEAST = 5  # texts of a domain: a resample of fewer tells little
_SMALLEST = 1e-12  # bits per byte: a text that is known by heart costs none


class Perplexity(LikelihoodProbe):
    """Read held-out texts of every domain and count the bits that a byte of them costs the model.

    ``b_d = sum -log2 p(token) / sum bytes`` over at most ``max_texts`` distinct texts of domain d, drawn by the seed, of which
    the first ``max_tokens`` tokens are read, fewer where a character would be split. Every token counts, the first one
    included, and the bytes are those of the tokens that count (:mod:`probes.knowledge.likelihood`).

    The shares are ``p_d = (1 / b_d) / sum_e (1 / b_e)``: had every domain the same number of bits, these are the shares of text
    that they would pay for. That is relative ease, not a share of the training data: some domains are easier than others for
    every model, and what a text costs falls slowly with how much was read of its kind. On two small models of opposite, known
    mixtures of real text the shares came no nearer to the mixture than even shares are (total variation 0.33 and 0.39, and 0.37
    for even ones), while the bits of five domains in six followed what was read of them. So compare models, not domains. A text
    that the model was trained on is not held out and is cheaper for it.

    The standard errors and the 95 % intervals are those of a bootstrap over the texts of each domain, and cover nothing else.

    References
    ----------
    Gao et al., The Pile (2101.00027), section 3.1 (bits per byte).
    """

    reference: ClassVar[str] = "Gao et al. 2020 (2101.00027), section 3.1"
    summary: ClassVar[str] = "bits per byte of held-out text, as relative ease"

    name: Literal["perplexity"] = "perplexity"
    max_texts: int = Field(default=200, ge=_LEAST)
    max_tokens: int = Field(default=512, ge=1)

    def plan(self, *, domains: Sequence[str], reference: pl.DataFrame, tokenizer: Any, seed: int) -> Counts:
        """Return what :meth:`measure` will show the model, to the token."""
        chosen = self._choose(tokenizer, domains=domains, reference=reference, seed=seed)
        return Counts(prompt_tokens=self.reader(tokenizer).n_tokens(chosen.passages))

    def measure(
        self, session: Session, *, domains: Sequence[str], reference: pl.DataFrame, seed: int, folder: Path
    ) -> KnowledgeDistribution:
        """Return the shares; write ``texts.parquet``, ``bits.json`` and ``knowledge.json`` into the folder.

        Raises
        ------
        SourceError
            Where a domain has too few texts, or a text belongs to no domain.
        ModelError
            Where the tokenizer has no token to begin with, or the model holds a text for impossible.
        """
        chosen = self._choose(session.tokenizer, domains=domains, reference=reference, seed=seed)
        nats = self.reader(session.tokenizer).nats(session, chosen.passages)
        texts = chosen.texts.with_columns(pl.Series("bits", -nats / np.log(2)))
        write(texts, folder / "texts.parquet", TEXT)
        again = np.stack([_resampled_bits(texts, domain, seed=seed) for domain in domains], axis=1)
        bits = {d: {**_summary(texts, d, again[:, j]), "left_out": chosen.left[d]} for j, d in enumerate(domains)}
        write_json(folder / "bits.json", {"begun_with": beginning(session.tokenizer)[1], "domains": bits})
        per_byte = np.array([bits[domain]["bits_per_byte"] for domain in domains])
        return distribution(
            shares(per_byte), shares(again), domains=domains, n=texts.height, rejected=chosen.rejected, probe=self.name,
            folder=folder,
        )  # fmt: skip

    def _choose(self, tokenizer: Any, *, domains: Sequence[str], reference: pl.DataFrame, seed: int) -> _Chosen:
        rows: list[tuple[Any, ...]] = []
        passages: list[Passage] = []
        left: dict[str, Counter[str]] = {}
        for domain, given in texts_of(reference, domains).items():
            drawn, left[domain] = self._drawn(given, domain, seed=seed)
            n_before = len(passages)
            for text, found in zip(drawn, tokenise(tokenizer, drawn), strict=True):
                if after := found.until(self.max_tokens):
                    passages.append(Passage(found.ids, 0, after))
                    rows.append((domain, digest(text), after, int(found.edges[after]), after < len(found.ids)))
            n_read = len(passages) - n_before
            left[domain]["without_tokens"] = len(drawn) - n_read
            if n_read < _LEAST:
                raise SourceError(
                    "too few reference texts", where=f"domain {domain}", expected=f"at least {_LEAST} distinct ones",
                    got=n_read, hint="add a source of role reference or target for it",
                )  # fmt: skip
        schema = {column: dtype for column, dtype in TEXT.items() if column != "bits"}
        return _Chosen(pl.DataFrame(rows, schema=schema, orient="row"), passages, left)

    def _drawn(self, given: Sequence[str], domain: str, *, seed: int) -> tuple[list[str], Counter[str]]:
        """Return the texts of a domain that are read, in their order, and how many are not, by reason."""
        filled = [text for text in given if text.strip()]
        distinct = sorted(set(filled))
        chosen = rng(seed, "perplexity", "texts", domain).permutation(len(distinct))[: self.max_texts]
        n_empty, n_copies = len(given) - len(filled), len(filled) - len(distinct)
        left = Counter(empty=n_empty, copies=n_copies, not_drawn=len(distinct) - len(chosen))
        return [distinct[i] for i in sorted(chosen)], left


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The texts that are read, as TEXT rows but for their bits, and how many of each domain are not, by reason."""

    texts: pl.DataFrame
    passages: list[Passage]
    left: dict[str, Counter[str]]

    @property
    def rejected(self) -> int:
        """How many texts have nothing to read."""
        return sum(reasons["empty"] + reasons["without_tokens"] for reasons in self.left.values())


def shares(bits: np.ndarray) -> np.ndarray:
    """Return shares in proportion to the bytes that a bit pays for; ``bits`` per byte is float64 (..., D).

    Examples
    --------
    >>> shares(np.array([1.0, 2.0, 2.0])).tolist()
    [0.5, 0.25, 0.25]
    """
    ease = 1 / np.maximum(bits, _SMALLEST)
    return np.asarray(ease / ease.sum(axis=-1, keepdims=True))


def _resampled_bits(texts: pl.DataFrame, domain: str, *, seed: int) -> np.ndarray:
    own = texts.filter(pl.col("domain") == domain)
    rows = np.stack([own["bits"].to_numpy(), own["n_bytes"].cast(pl.Float64).to_numpy()], axis=1)
    bits, n_bytes = resampled(rows, rng(seed, "perplexity", "bootstrap", domain)).T
    return np.asarray(bits / n_bytes)


def _summary(texts: pl.DataFrame, domain: str, again: np.ndarray) -> dict[str, Any]:
    own = texts.filter(pl.col("domain") == domain)
    found, bits, n_bytes = spread(again), float(own["bits"].sum()), int(own["n_bytes"].sum())
    return {
        "bits_per_byte": bits / n_bytes,
        "stderr": float(found.stderr),
        "low": float(found.low),
        "high": float(found.high),
        "bits": bits,
        "bytes": n_bytes,
        "tokens": int(own["n_tokens"].sum()),
        "texts": own.height,
        "cut": int(own["cut"].sum()),
    }
