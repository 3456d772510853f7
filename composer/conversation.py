"""A conversation as it is stored and as a chat template reads it: texts in ``messages``, everything else in ``extras``.

Rows of one table share one type, and most rows are role and content alone. What some rows carry beyond that (the tools that may
be called, calls, thinking, names) lies beside them as one JSON text, so that no row loses it and no plain row pays for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from composer.spec import canonical, digest

Message = Mapping[str, str]

THINKING = ("reasoning_content", "thinking")
"""The two keys under which chat templates read an assistant's thinking; a whole turn has both, ``extras`` the last."""


@dataclass(frozen=True)
class Whole:
    """A conversation as a chat template reads it: turns with all their keys, and the tools that may be called."""

    turns: list[dict[str, Any]]
    tools: list[Any] | None = None


def whole(messages: Sequence[Message], extras: str | None) -> Whole:
    """Return messages with their extras put back in place.

    Examples
    --------
    >>> whole([{"role": "assistant", "content": "4"}], '{"turns":{"0":{"thinking":"2 + 2"}}}').turns
    [{'role': 'assistant', 'content': '4', 'thinking': '2 + 2', 'reasoning_content': '2 + 2'}]
    """
    turns: list[dict[str, Any]] = [{"role": message["role"], "content": message["content"]} for message in messages]
    if extras is None:
        return Whole(turns)
    beside = json.loads(extras)
    for place, keys in beside.get("turns", {}).items():
        turns[int(place)].update(keys)
        if "thinking" in keys:
            turns[int(place)].update(dict.fromkeys(THINKING, keys["thinking"]))
    return Whole(turns, beside.get("tools"))


def extras_of(turns: Mapping[int, Mapping[str, Any]], tools: Sequence[Any] | None) -> str | None:
    """Return what stands beside the messages as canonical JSON: keys by the number of their turn, and the tools.

    Examples
    --------
    >>> extras_of({1: {"thinking": "2 + 2"}}, None)
    '{"turns":{"1":{"thinking":"2 + 2"}}}'
    >>> extras_of({}, None) is None
    True
    """
    beside: dict[str, Any] = {}
    if kept := {str(place): dict(keys) for place, keys in turns.items() if keys}:
        beside["turns"] = kept
    if tools:
        beside["tools"] = list(tools)
    return canonical(beside) if beside else None


def sample_id(messages: Sequence[Message], extras: str | None = None) -> str:
    """Return 16 hex digits of blake2b over a conversation's roles and contents, and over its extras where it has some."""
    content: list[Any] = [[message["role"], message["content"]] for message in messages]
    return digest(content if extras is None else [*content, extras])
