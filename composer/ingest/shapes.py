"""The shapes in which instruction data is written, each read into the same conversation.

A shape is the fields by which a row has it and one function: a row in, a :class:`Row` out, or a SourceError whose ``what`` is
the word under which the dropped row is counted. Contents are kept to the character, but for repairs that are named and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from composer.conversation import extras_of, sample_id
from composer.errors import SourceError
from composer.ingest.raw import encodable
from composer.ingest.turns import CONTROL, Raw, Turn, one, pairs, spoken, text, tools_of, turns
from composer.spec import digest
from composer.types import Shape

Message = dict[str, str]

TURN_FIELDS = ("role", "content")
"""Names in ``Source.columns`` that stand for keys inside the turns of a conversation."""


@dataclass(frozen=True)
class Row:
    """One conversation that ends with an answer.

    Its instruction is the first question, or the first ``asked`` characters of the last one; a plain document has none.

    Examples
    --------
    >>> row = SHAPES["alpaca"].read({"instruction": "Say  hi.", "output": "Hi."})
    >>> [m["role"] for m in row.messages], row.instruction, len(row.sample_id)
    (['user', 'assistant'], 'Say hi.', 16)
    """

    messages: tuple[Message, ...]
    asked: int | None = None
    extras: str | None = None
    repairs: tuple[str, ...] = ()

    @cached_property
    def sample_id(self) -> str:
        """16 hex digits of the messages and their extras."""
        return sample_id(self.messages, self.extras)

    @cached_property
    def instruction(self) -> str:
        """The text of the instruction, its whitespace runs as one space."""
        return instruction(self.messages, self.asked)

    @cached_property
    def instruction_id(self) -> str:
        """16 hex digits of the instruction's text."""
        return digest(self.instruction)


def instruction(messages: Sequence[Mapping[str, str]], asked: int | None) -> str:
    """Return the instruction of a conversation (see :class:`Row`), empty where nothing is asked."""
    questions = [message["content"] for message in messages if message["role"] == "user"]
    if not questions:
        return ""
    return " ".join((questions[0] if asked is None else questions[-1][:asked]).split())


@dataclass(frozen=True)
class ShapeOf:
    """A way to write a conversation: the sets of fields of which a row must have one, and how it is read."""

    fields: tuple[tuple[str, ...], ...]
    read: Callable[[Raw], Row]

    def has(self, row: Raw) -> bool:
        """Return whether a row has all fields of one set, and not all of them null."""
        return any(all(f in row for f in names) and any(row[f] is not None for f in names) for names in self.fields)


def normalise(
    row: Raw, *, adapter: Shape = "auto", columns: Mapping[str, str] | None = None, roles: Mapping[str, str] | None = None
) -> tuple[str, Row]:
    """Return the word of a row's shape and its conversation.

    With ``auto`` the first shape whose fields the row has is taken, row by row. A null is an absent value, so that shapes can
    be mixed in one table. ``columns`` and ``roles`` are those of a Source.

    Raises
    ------
    SourceError
        With the reason for which the row is dropped as ``what``.
    """
    row = _mapped(row, columns or {}, roles or {}) if columns or roles else row
    if adapter == "auto":
        word = next((word for word, shape in SHAPES.items() if shape.has(row)), None)
        if word is None:
            raise SourceError("unknown_shape")
    elif not SHAPES[adapter].has(row):
        raise SourceError("other_shape")
    else:
        word = adapter
    return word, SHAPES[word].read(row)


def _messages(row: Raw) -> Row:
    return _finish(turns(row["messages"]), row)


def _sharegpt(row: Raw) -> Row:
    return _finish([*one("system", text(row, "system")), *spoken(row["conversations"])], row)


def _alpaca(row: Raw) -> Row:
    return _asked(row, "instruction", ("input", "context"), ("output", "response"))


def _question_answer(row: Raw) -> Row:
    return _asked(row, "question", ("context",), ("answer",))


def _prompt_completion(row: Raw) -> Row:
    said: list[Turn] = []
    for names, role in ((("prompt", "query"), "user"), (("completion", "response"), "assistant")):
        name = _first(row, names)
        said += turns(row[name]) if isinstance(row.get(name), list) else [Turn(role, text(row, name))]
    system = one("system", text(row, "system")) if not any(turn.role == "system" for turn in said) else []
    return _finish([*system, *said], row)


def _document(row: Raw) -> Row:
    return _finish([Turn("assistant", text(row, "text"))], {})


SHAPES: Mapping[str, ShapeOf] = {
    "messages": ShapeOf((("messages",),), _messages),
    "sharegpt": ShapeOf((("conversations",),), _sharegpt),
    "alpaca": ShapeOf((("instruction", "output"), ("instruction", "response")), _alpaca),
    "prompt_completion": ShapeOf((("prompt", "completion"), ("prompt", "response"), ("query", "response")), _prompt_completion),
    "question_answer": ShapeOf((("question", "answer"),), _question_answer),
    "text": ShapeOf((("text",),), _document),
}

FIELDS = frozenset(field for shape in SHAPES.values() for names in shape.fields for field in names)
"""Every field by which some shape is known."""


def _mapped(row: Raw, columns: Mapping[str, str], roles: Mapping[str, str]) -> Raw:
    """Return a row under our names; an explicit mapping hides the shape fields that it does not name."""
    own = {name: column for name, column in columns.items() if name not in TURN_FIELDS}
    out = {name: value for name, value in row.items() if not (own and name in FIELDS)}
    out.update({name: row[column] for name, column in own.items() if column in row})
    if not roles and not set(columns) & set(TURN_FIELDS):
        return out
    role, content = (columns.get(name) for name in TURN_FIELDS)
    for name, keys in (("messages", TURN_FIELDS), ("conversations", ("from", "value"))):
        if isinstance(out.get(name), list):
            out[name] = [_renamed(turn, (role or keys[0], content or keys[1]), keys, roles) for turn in out[name]]
    return out


def _renamed(turn: object, theirs: tuple[str, str], ours: tuple[str, ...], roles: Mapping[str, str]) -> object:
    if not isinstance(turn, Mapping):
        return turn
    out = {key: value for key, value in turn.items() if key not in theirs}
    speaker = turn.get(theirs[0])
    out[ours[0]] = roles.get(speaker, speaker) if isinstance(speaker, str) else speaker
    out[ours[1]] = turn.get(theirs[1])
    return out


def _first(row: Raw, names: tuple[str, ...]) -> str:
    """Return the first of the names that has a value in the row."""
    return next((name for name in names if row.get(name) is not None), names[0])


def _asked(row: Raw, asked: str, beside: tuple[str, ...], answered: tuple[str, ...]) -> Row:
    """Return the conversation of one question, with what it is about below it, and its answer."""
    instruction, given = text(row, asked), text(row, _first(row, beside))
    prompt = "\n\n".join(each for each in (instruction, given) if each.strip())
    if not prompt:
        raise SourceError("empty_prompt")
    answer = text(row, _first(row, answered))
    if not answer.strip():
        raise SourceError("empty_answer")
    history = pairs(row.get("history"))
    n_asked = None
    if history or (instruction.strip() and given.strip()):
        n_asked = len(CONTROL.sub("", instruction if instruction.strip() else given))
    said = [Turn("user", prompt), Turn("assistant", answer)]
    return _finish([*one("system", text(row, "system")), *history, *said], row, asked=n_asked)


def _finish(said: list[Turn], row: Raw, *, asked: int | None = None) -> Row:
    """Repair what can be, cut what follows the last answer that says something, and refuse what asks or answers nothing.

    A lone assistant turn is a plain document: it is what samples of documents are made of, so they can be read back.
    """
    repairs = _without_control(said)
    answers = [i for i, turn in enumerate(said) if turn.role == "assistant"]
    if not answers:
        raise SourceError("no_answer")
    last = next((i for i in reversed(answers) if said[i].says), None)
    if last is None:
        raise SourceError("empty_answer")
    kept = said[: last + 1]
    if len(kept) < len(said):
        repairs.append("trailing_turns")
    messages = tuple({"role": turn.role, "content": turn.content} for turn in kept)
    if len(said) > 1 and not instruction(messages, asked):
        raise SourceError("empty_prompt")
    extras = extras_of({i: turn.extras for i, turn in enumerate(kept)}, tools_of(row))
    if not all(encodable(turn.content) for turn in kept) or not encodable(extras or ""):
        raise SourceError("invalid_encoding")
    return Row(messages, asked, extras, tuple(repairs))


def _without_control(said: list[Turn]) -> list[str]:
    touched = False
    for turn in said:
        if CONTROL.search(turn.content):
            turn.content, touched = CONTROL.sub("", turn.content), True
    return ["control_characters"] if touched else []
