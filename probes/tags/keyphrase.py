"""The words of an instruction that set it apart: needs no model and no network."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from probes.tags import Tagger, normalise

# A phrase does not reach across these; a hyphen, a slash or an apostrophe may stand inside one.
_BORDER = re.compile(r"[.,;:!?()\[\]{}<>\"“”«»|=*\n\t。，、；：！？]+")
_CONTRACTED = frozenset({"s", "t", "d", "m", "ll", "re", "ve"})  # what an apostrophe leaves behind
_LONGEST = 3


class Keyphrase(Tagger):
    """Take the phrases of one to three words with the largest TF-IDF over the distinct texts.

    ``score = f * (ln((1 + N) / (1 + f_N)) + 1)`` with ``f`` the phrase's count in the text, ``f_N`` the number of distinct
    texts that have it and ``N`` their number; of equal ones the longer, then the first in the alphabet. A phrase neither begins
    nor ends with an English stop word and has a letter outside of stop words. Phrases of fewer than ``min_texts`` texts are
    taken only where a text has no other, since a tag that nothing shares tells nothing apart. No tag of a text lies inside
    another of its tags. Tags depend neither on the order of the texts nor on how often one occurs.

    Examples
    --------
    >>> texts = ["Sort the linked list.", "Reverse the linked list.", "Sort these numbers: 3, 1, 2"]
    >>> Keyphrase(top=2).tag(texts)
    [('linked list', 'sort'), ('linked list',), ('sort',)]
    """

    reference: ClassVar[str] = "Spärck Jones, J. Documentation 28 (1972); a stand-in for InsCL (2403.11435) section 3.3"
    summary: ClassVar[str] = "phrases of one to three words by TF-IDF; offline"

    name: Literal["keyphrase"] = "keyphrase"
    top: int = Field(default=5, ge=1)
    min_texts: int = Field(default=2, ge=1)

    def propose(self, texts: Sequence[str], *, folder: Path | None) -> list[tuple[str, ...]]:  # noqa: ARG002
        """Return up to ``top`` phrases per text, the best first."""
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        stop = ENGLISH_STOP_WORDS | _CONTRACTED
        counts = {text: Counter(_phrases(text, stop)) for text in dict.fromkeys(texts)}
        n_texts = Counter(phrase for count in counts.values() for phrase in count)
        weight = {phrase: math.log((1 + len(counts)) / (1 + n)) + 1 for phrase, n in n_texts.items()}
        tags = {}
        for text, count in counts.items():
            shared = [phrase for phrase in count if n_texts[phrase] >= self.min_texts] or list(count)
            best = sorted(shared, key=lambda phrase: (-count[phrase] * weight[phrase], -phrase.count(" "), phrase))
            tags[text] = _apart(best, self.top)
        return [tags[text] for text in texts]


def _phrases(text: str, stop: frozenset[str]) -> Iterator[str]:
    for segment in _BORDER.split(text):
        words = normalise(segment).split()
        named = [word not in stop and any(map(str.isalpha, word)) for word in words]
        for begin, first in enumerate(words):
            if first in stop:
                continue
            for end in range(begin + 1, min(begin + _LONGEST, len(words)) + 1):
                if words[end - 1] not in stop and any(named[begin:end]):
                    yield " ".join(words[begin:end])


def _apart(phrases: Sequence[str], n: int) -> tuple[str, ...]:
    """Take the first ``n`` phrases of which none lies inside another."""
    taken: list[str] = []
    for phrase in phrases:
        if len(taken) == n:
            break
        if not any(f" {phrase} " in f" {other} " or f" {other} " in f" {phrase} " for other in taken):
            taken.append(phrase)
    return tuple(taken)
