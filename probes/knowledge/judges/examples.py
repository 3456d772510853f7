"""Reference texts as judges learn from them: distinct, cut, and at most so many of each domain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from composer.errors import SourceError
from composer.spec import rng, seed_of

FOLDS = 5


def examples(
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    domains: Sequence[str],
    seed: int,
    max_chars: int,
    max_texts: int,
    least: int = FOLDS,
) -> tuple[list[str], np.ndarray]:
    """Return texts and domain numbers, domain after domain; neither the order of the texts nor repeated ones matter.

    Of a text the first ``max_chars`` characters are kept, of a domain at most ``max_texts`` texts, drawn by the seed.

    Raises
    ------
    SourceError
        Where a domain has fewer than ``least`` distinct texts, a label is no domain, or there is but one domain.
    """
    if unknown := sorted(set(labels) - set(domains)):
        raise SourceError("reference texts of an unknown domain", got=unknown[0], expected=", ".join(domains))
    if len(domains) < 2:
        raise SourceError("a judge tells domains apart", expected="at least two domains", got=len(domains))
    kept: list[str] = []
    y: list[int] = []
    for j, domain in enumerate(domains):
        own = {text[:max_chars] for text, label in zip(texts, labels, strict=True) if label == domain}
        distinct = sorted(text for text in own if text.strip())
        if len(distinct) < least:
            raise SourceError(
                "too few reference texts", where=f"domain {domain}", expected=f"at least {least} distinct ones",
                got=len(distinct), hint="add a source of role reference or target for it",
            )  # fmt: skip
        chosen = rng(seed, "judge", "texts", domain).permutation(len(distinct))[:max_texts]
        kept += [distinct[i] for i in sorted(chosen)]
        y += [j] * len(chosen)
    return kept, np.array(y)


def folds(label: np.ndarray, *, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield what to learn from and what to be tested on, five times, with every domain's share in each."""
    from sklearn.model_selection import StratifiedKFold

    split = StratifiedKFold(FOLDS, shuffle=True, random_state=seed_of(seed, "judge", "folds"))
    yield from split.split(label, label)


def resample(label: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return how often each text (n,) is drawn where every domain is drawn again, with replacement, as often as it is there."""
    times = np.zeros(len(label), dtype=np.int64)
    for domain in np.unique(label):
        own = np.flatnonzero(label == domain)
        times[own] = random.multinomial(len(own), np.full(len(own), 1 / len(own)))
    return times
