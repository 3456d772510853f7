"""What the messy set is made of: a row with its verdict, good rows to stand around bad ones, and rows joined to a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple


class Case(NamedTuple):
    """A row and its verdict: empty for a kept row, ``+word`` for a repaired and ``-word`` for a dropped one.

    ``raw`` is a value of JSON, or bytes or str as they stand in the file; None stands nowhere (a tail that is lost).
    """

    raw: Any
    verdict: str = ""
    answer: str | None = None


JSON = json.dumps
FILTERED = "filtered"  # the verdict of a row that the recipe does not want: no row of the count, yet a number
File = tuple[str, bytes, Sequence[Case]]


def good(n: int, word: str = "river") -> Case:
    """Return the n-th good row, in one of seven shapes, turn about."""
    ask, say = f"Question {n} of the {word}?", f"Answer {n} of the {word}."
    rows: tuple[dict[str, Any], ...] = (
        {"messages": chat(ask, say)},
        {"conversations": [{"from": "human", "value": ask}, {"from": "gpt", "value": say}]},
        {"instruction": ask, "input": "", "output": say},
        {"prompt": ask, "completion": say},
        {"question": ask, "answer": say},
        {"text": say},
        {"instruction": ask, "context": word, "response": say},
    )
    return Case(rows[n % len(rows)], "", say)


def among(cases: Iterable[Case], fill: Callable[[int], Case] = good) -> list[Case]:
    """Return the cases with a good row before, between and after them."""
    out = [fill(0)]
    for n, case in enumerate(cases, 1):
        out += [case, fill(n)]
    return out


def chat(*texts: str, system: str = "") -> list[dict[str, Any]]:
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return [*([{"role": "system", "content": system}] if system else []), *turns]


def turns(*pairs: tuple[Any, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs], **more}


def sharegpt(*pairs: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": value} for who, value in pairs], **more}


def _line(raw: Any) -> bytes:
    return raw if isinstance(raw, bytes) else JSON(raw).encode()


def joined(cases: Iterable[Case], end: bytes = b"\n") -> bytes:
    return b"".join(_line(case.raw) + end for case in cases)


def as_array(cases: Iterable[Case]) -> bytes:
    return b"[" + b",\n ".join(_line(case.raw) for case in cases) + b"]"
