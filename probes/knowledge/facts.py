"""Facts to ask about: a prompt, its right answer and wrong ones, from a file or out of the reference rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from composer.errors import ComposerError, SourceError
from composer.spec import Spec, rng

UNUSABLE = ("no_answer", "long_answer", "no_distractor")
"""The reasons for which a row makes no question at all."""


class Fact(Spec):
    """One row of a facts file; the distractors are wrong answers, as like the right one as can be."""

    domain: str
    prompt: str
    answer: str
    distractors: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Fact:
        answers = (self.answer, *self.distractors)
        if not self.prompt.strip() or not all(answer.strip() for answer in answers):
            raise ValueError("prompt, answer and distractors must not be empty")
        if len(set(answers)) < len(answers):
            raise ValueError("an answer is given twice")
        return self


@dataclass(frozen=True, order=True)
class Question:
    """A prompt and what may follow it, character by character; the first candidate is right."""

    domain: str
    prompt: str
    candidates: tuple[str, ...]


def read_facts(path: Path, *, domains: Sequence[str], between: str) -> list[Question]:
    """Return the questions of a JSON Lines or Parquet file; ``between`` is put between a prompt and every candidate.

    Raises
    ------
    SourceError
        Where the file is missing or cannot be read, or a row is no fact or of an unknown domain; the row is named.
    """
    questions = []
    for place, row in _rows(path):
        try:
            fact = Fact(**row)
        except ComposerError as error:
            raise SourceError(f"not a fact: {error}", where=place, expected="domain, prompt, answer, distractors") from None
        if fact.domain not in domains:
            raise SourceError("a fact of an unknown domain", where=place, got=fact.domain, expected=", ".join(domains))
        questions.append(Question(fact.domain, fact.prompt, tuple(between + each for each in (fact.answer, *fact.distractors))))
    return questions


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every row with its place."""
    try:
        if path.suffix == ".parquet":
            yield from ((f"{path}, row {i}", row) for i, row in enumerate(pl.read_parquet(path).to_dicts()))
            return
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        told = " ".join(str(error).split())[:160]
        raise SourceError(f"no facts: {told}", where=str(path), expected="a JSON Lines or Parquet file") from None
    for i, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}, line {i}", _parsed(line, f"{path}, line {i}")


def _parsed(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise SourceError(f"not JSON: {error}", where=place, expected="one fact on a line") from None
    if not isinstance(row, dict):
        raise SourceError("not a fact", where=place, expected="an object on every line", got=type(row).__name__)
    return row


def questions_of(
    rows: Sequence[str], *, domain: str, most: int, max_answer: int, distractors: int, seed: int
) -> tuple[list[Question], Counter[str]]:
    """Return at most ``most`` questions made of a domain's rows, and how many rows make none, by reason.

    A row's last line is its answer, and what stands before it the prompt: so it is with a question and an answer of one line,
    whose texts the reference joins by line breaks. The distractors are answers of other rows, drawn by the seed, and never one
    that another row gives to the same prompt. Neither the order of the rows nor copies of them matter.

    Examples
    --------
    >>> found, left = questions_of(["2+2?\\n4", "3+3?\\n6", "4"], domain="sums", most=9, max_answer=9, distractors=1, seed=0)
    >>> [(each.prompt, each.candidates) for each in found], left["no_answer"]
    ([('2+2?\\n', ('4', '6')), ('3+3?\\n', ('6', '4'))], 1)
    """
    pairs, left = _pairs(rows, max_answer)
    right: dict[str, set[str]] = {}
    for prompt, answer in pairs:
        right.setdefault(prompt, set()).add(answer)
    pool = sorted({answer for _, answer in pairs})
    usable = [Question(domain, prompt, (answer,)) for prompt, answer in pairs if len(right[prompt]) < len(pool)]
    left["no_distractor"] = len(pairs) - len(usable)
    chosen, not_chosen = drawn(usable, domain, most, seed=seed)

    def asked(question: Question) -> Question:
        own = right[question.prompt]
        random = rng(seed, "cloze", "distractors", domain, question.prompt, *question.candidates)
        others = random.choice(len(pool), size=min(len(pool), distractors + len(own)), replace=False)
        wrong = [pool[i] for i in others if pool[i] not in own][:distractors]
        return Question(domain, question.prompt, (*question.candidates, *wrong))

    return [asked(question) for question in chosen], left + not_chosen


def drawn(questions: Sequence[Question], domain: str, most: int, *, seed: int) -> tuple[list[Question], Counter[str]]:
    """Return at most so many of a domain's distinct questions, drawn by the seed, and how many are left out, by reason."""
    distinct = sorted(set(questions))
    chosen = rng(seed, "cloze", "facts", domain).permutation(len(distinct))[:most]
    left = Counter(copies=len(questions) - len(distinct), not_drawn=len(distinct) - len(chosen))
    return [distinct[i] for i in sorted(chosen)], left


def _pairs(rows: Iterable[str], max_answer: int) -> tuple[list[tuple[str, str]], Counter[str]]:
    """Return the prompts with their answers, in order, copies included, and why other rows have none."""
    pairs = []
    left: Counter[str] = Counter()
    for row in rows:
        head, line, answer = row.rstrip().rpartition("\n")
        if not head.strip():
            left["no_answer"] += 1
        elif len(answer) > max_answer:
            left["long_answer"] += 1
        else:
            pairs.append((head + line, answer))
    return sorted(pairs), left
