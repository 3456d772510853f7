"""The shapes in which instruction data is written, each read into the same conversation.

A shape is one function: a row in, a :class:`Row` out, or a SourceError whose ``what`` is the word under which the dropped row
is counted. Contents are kept to the byte; nothing is stripped, repaired or joined that the shape does not say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from composer.errors import SourceError
from composer.ingest.files import encodable
from composer.spec import digest
from composer.types import Shape

ROLES = frozenset({"system", "user", "assistant", "tool"})
SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}

Message = dict[str, str]
Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One conversation that ends with an answer, and the text of its instruction (empty for a plain document).

    Examples
    --------
    >>> row = SHAPES["alpaca"]({"instruction": "Say  hi.", "output": "Hi."})
    >>> [m["role"] for m in row.messages], row.instruction, len(row.sample_id)
    (['user', 'assistant'], 'Say hi.', 16)
    """

    messages: tuple[Message, ...]
    instruction: str

    @cached_property
    def sample_id(self) -> str:
        """16 hex digits of the messages."""
        return digest([[message["role"], message["content"]] for message in self.messages])

    @cached_property
    def instruction_id(self) -> str:
        """16 hex digits of the instruction's text."""
        return digest(self.instruction)


def normalise(row: Raw, *, adapter: Shape = "auto") -> tuple[str, Row]:
    """Return the word of a row's shape and its conversation.

    With ``auto`` the first shape whose fields the row has is taken, row by row. A null is an absent value, so that shapes can
    be mixed in one table.

    Raises
    ------
    SourceError
        With the reason for which the row is dropped as ``what``.
    """
    if adapter == "auto":
        word = next((word for word in SHAPES if _has(row, FIELDS[word])), None)
        if word is None:
            raise SourceError("unknown_shape")
    elif not _has(row, FIELDS[adapter]):
        raise SourceError("other_shape")
    else:
        word = adapter
    return word, SHAPES[word](row)


def _messages(row: Raw) -> Row:
    return _finish(_turns(row["messages"]))


def _sharegpt(row: Raw) -> Row:
    return _finish(
        [
            *_turn("system", _text(row, "system")),
            *({"role": _role(t.get("from"), SPEAKERS), "content": _content(t, "value")} for t in _items(row["conversations"])),
        ]
    )


def _alpaca(row: Raw) -> Row:
    instruction, given = _text(row, "instruction"), _text(row, "input")
    asked = "\n\n".join(text for text in (instruction, given) if text.strip())
    if not asked:
        raise SourceError("empty_prompt")
    answer = _text(row, "output")
    if not answer.strip():
        raise SourceError("empty_answer")
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    instruction = instruction if instruction.strip() else given
    return _finish([*_turn("system", _text(row, "system")), *_history(row.get("history")), *turns], instruction=instruction)


def _prompt_completion(row: Raw) -> Row:
    turns: list[Message] = []
    for field, role in (("prompt", "user"), ("completion", "assistant")):
        value = row[field]
        turns += _turns(value) if isinstance(value, list) else [{"role": role, "content": _text(row, field)}]
    return _finish(turns)


def _document(row: Raw) -> Row:
    return _finish([{"role": "assistant", "content": _text(row, "text")}])


SHAPES: Mapping[str, Callable[[Raw], Row]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
    "text": _document,
}
FIELDS: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}


def _history(value: object) -> list[Message]:
    pairs = [] if value is None else value
    if not isinstance(pairs, list) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise SourceError("wrong_type")
    if not all(isinstance(text, str) for pair in pairs for text in pair):
        raise SourceError("wrong_type")
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]


def _has(row: Raw, fields: tuple[str, ...]) -> bool:
    return all(field in row for field in fields) and any(row[field] is not None for field in fields)


def _finish(messages: list[Message], *, instruction: str | None = None) -> Row:
    """Cut what follows the last answer that says something, and refuse a conversation that asks or answers nothing.

    A lone assistant turn is a plain document: it is what samples of documents are made of, so they can be read back.
    """
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise SourceError("no_answer")
    said = [i for i in answers if messages[i]["content"].strip()]
    if not said:
        raise SourceError("empty_answer")
    kept = messages[: said[-1] + 1]
    if len(messages) == 1:
        instruction = ""
    elif instruction is None:
        instruction = next((message["content"] for message in kept if message["role"] == "user"), "")
        if not instruction.strip():
            raise SourceError("empty_prompt")
    if not all(encodable(message["content"]) for message in kept):
        raise SourceError("invalid_encoding")
    return Row(tuple(kept), " ".join(instruction.split()))


def _turns(value: object) -> list[Message]:
    out = []
    for turn in _items(value):
        if turn.get("tool_calls"):  # the answer is a call that a text cannot hold
            raise SourceError("unsupported_content")
        out.append({"role": _role(turn.get("role"), {role: role for role in ROLES}), "content": _content(turn, "content")})
    return out


def _turn(role: str, text: str) -> list[Message]:
    return [{"role": role, "content": text}] if text.strip() else []


def _items(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise SourceError("wrong_type")
    return value


def _role(value: object, known: Mapping[str, str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise SourceError("unknown_role")
    return known[value]


def _content(turn: Mapping[str, Any], field: str) -> str:
    value = turn.get(field)
    if isinstance(value, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value):
        value = "".join(_text(part, "text") for part in value)
    if not isinstance(value, str):
        raise SourceError("unsupported_content")
    return value


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise SourceError("wrong_type")
    return value
