"""Turns of a conversation in the ways they are written: texts into messages, what is more than text into extras."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from composer.errors import SourceError

ROLES: Mapping[str, str] = {role: role for role in ("system", "user", "assistant", "tool")}
SPEAKERS: Mapping[str, str] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Control characters that no text needs; tab and line breaks stay."""

_MACHINES = ("function_call", "observation", "tool")
_THINKING = ("thinking", "reasoning_content", "reasoning")
_BESIDE = ("name", "tool_call_id")

Raw = Mapping[str, Any]


@dataclass
class Turn:
    """One message, and what it carries beyond role and content."""

    role: str
    content: str
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def says(self) -> bool:
        """Whether it has a text or a call."""
        return bool(self.content.strip()) or "tool_calls" in self.extras


def turns(value: object) -> list[Turn]:
    """Return the turns of a list of messages in OpenAI's manner: role, content, tool_calls, thinking, name."""
    return [_turn(raw, _role(raw.get("role"), ROLES), raw.get("content")) for raw in items(value)]


def spoken(value: object) -> list[Turn]:
    """Return the turns of a ShareGPT conversation; a function_call that is JSON becomes a call."""
    out = []
    for raw in items(value):
        value = raw.get("value")
        if isinstance(value, (dict, list)) and raw.get("from") in _MACHINES:  # written out where others write JSON text
            value = json.dumps(value, ensure_ascii=False)
        turn = _turn(raw, _role(raw.get("from"), SPEAKERS), value)
        if raw["from"] == "function_call" and (calls := _calls_in(turn.content)):
            turn = Turn("assistant", "", {**turn.extras, "tool_calls": calls})
        out.append(turn)
    return out


def one(role: str, text: str) -> list[Turn]:
    """Return a turn, or none for a blank text."""
    return [Turn(role, text)] if text.strip() else []


def pairs(value: object) -> list[Turn]:
    """Return the turns of a history of (asked, answered) pairs."""
    history = [] if value is None else unpacked(value)
    if not isinstance(history, list) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in history):
        raise SourceError("wrong_type")
    if not all(isinstance(text, str) for pair in history for text in pair):
        raise SourceError("wrong_type")
    return [Turn(role, text) for pair in history for role, text in zip(("user", "assistant"), pair, strict=True)]


def tools_of(row: Raw) -> list[Any]:
    """Return the tools that a row offers, whether written out or as JSON text."""
    value = row.get("tools") or row.get("functions")
    if isinstance(value, str) and not value.strip():
        return []
    tools = unpacked(value) if value else []
    if not isinstance(tools, list):
        raise SourceError("wrong_type")
    return [unpacked(tool) for tool in tools]


def text(row: Raw, name: str) -> str:
    """Return a text of a row; an absent one is empty."""
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SourceError("wrong_type")
    return value


def items(value: object) -> Sequence[Raw]:
    """Return a list of mappings, which a table may hold as JSON text."""
    value = unpacked(value)
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise SourceError("wrong_type")
    return value


def unpacked(value: object) -> Any:
    """Return the value of a JSON text that holds a list or an object, any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _turn(raw: Raw, role: str, content: object) -> Turn:
    extras: dict[str, Any] = {key: raw[key] for key in _BESIDE if isinstance(raw.get(key), str)}
    calls = unpacked(raw.get("tool_calls"))
    if calls is None and raw.get("function_call"):
        calls = [{"type": "function", "function": unpacked(raw["function_call"])}]
    if calls:
        if not isinstance(calls, list):
            raise SourceError("wrong_type")
        extras["tool_calls"] = [unpacked(call) for call in calls]
    thinking = [raw[key] for key in _THINKING if isinstance(raw.get(key), str)]
    if content is None and "tool_calls" in extras:
        content = ""
    if isinstance(content, list):
        content, thought = _parts(content)
        thinking += thought
    if not isinstance(content, str):
        raise SourceError("unsupported_content")
    if thinking and thinking[0].strip():
        extras["thinking"] = thinking[0]
    return Turn(role, content, extras)


def _parts(parts: list[Any]) -> tuple[str, list[str]]:
    """Return the text of a content in parts, and what of it is thinking."""
    said: list[str] = []
    thought: list[str] = []
    for part in parts:
        if not isinstance(part, Mapping) or part.get("type") not in ("text", "thinking"):
            raise SourceError("unsupported_content")
        (said if part["type"] == "text" else thought).append(text(part, str(part["type"])))
    return "".join(said), ["".join(thought)] if thought else []


def _calls_in(content: str) -> list[Any]:
    calls = unpacked(content)
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, Mapping) and isinstance(call.get("name"), str) for call in calls):
        return []
    return [{"type": "function", "function": dict(call)} for call in calls]


def _role(value: object, known: Mapping[str, str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise SourceError("unknown_role")
    return known[value]
