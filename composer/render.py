"""A conversation as the target's chat template can carry it, and what of it the template does not carry.

Many templates refuse a system turn, two turns of one speaker or tools, or pass over them without a word. A row is not lost for
that: a ladder of foldings is climbed, each of which turns what the template does not take into text that it takes, and the
first rung that renders is taken. A row that was folded, or not all of whose answers can be trained on, is *adapted*.

An answer is trained on where the text before it is the text with which the model will be asked for it. Templates of thinking
models rewrite what went before (they strip the thinking of earlier turns, or give the last turn alone an empty one): of such a
row those answers are trained on whose rendering stays as it was, most often the last, after the history that the model will
see. To train on a rewritten answer would teach the model to answer without the thinking, or without the mark, that it is asked
with; a template file that leaves history as it is has all answers trained on.

Which answers are wanted is ``loss_on``: ``all``, or the ``last`` alone, that of the last assistant turn as the template has it
(turns of one speaker that had to be merged are one). Everything that counts, encodes or shows takes its spans from here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from composer.conversation import THINKING, Whole
from composer.errors import SourceError
from composer.template import Answers, ChatTemplate, Span, Turn
from composer.types import LossOn

LADDER: tuple[frozenset[str], ...] = tuple(
    frozenset(words)
    for words in (
        (),
        ("turns",),
        ("system",),
        ("tool_calls", "tools", "tool"),
        ("tool_calls", "tools", "tool", "system"),
        ("tool_calls", "tools", "tool", "system", "opening"),
    )
)
"""What is folded on each rung, by the words of :func:`fold`; every rung but the first merges turns of one speaker."""

KINDS = ("system", "tools", "user", "tool_calls", "tool", "thinking", "assistant")
"""What a conversation consists of, in the order in which it is told."""

FOLDABLE = frozenset({"system", "tools", "tool_calls", "tool"})


@dataclass(frozen=True)
class Rendering:
    """A conversation as text, the characters of the answers that are trained on, and what became of it on the way.

    ``not_carried`` are the :data:`KINDS` of which some text is not found in the rendering. A ``document`` is one assistant turn
    that is text alone; it is rendered without the template.
    """

    text: str
    spans: tuple[Span, ...]
    adapted: bool = False
    not_carried: tuple[str, ...] = ()
    document: bool = False


def render(template: ChatTemplate, conversation: Whole, *, loss_on: LossOn = "all") -> Rendering:
    """Return the conversation as text and the spans of the answers that are trained on; a document is its text.

    Raises
    ------
    SourceError
        Where no rung of the ladder renders (``template_refuses``) or leaves a wanted answer to train on
        (``template_rewrites_history``); the message is the reason under which the row is counted.
    """
    first = conversation.turns[0] if len(conversation.turns) == 1 else {}
    if first.get("role") == "assistant" and len(first) == 2 and not conversation.tools:
        text = first["content"]
        return Rendering(text, ((0, len(text)),), document=True)
    return _climb(conversation, template.answers, loss_on=loss_on)


def render_prompt(template: ChatTemplate, conversation: Whole) -> str:
    """Return a conversation that waits for the assistant's answer as text, folded as :func:`render` would fold it.

    Raises
    ------
    SourceError
        ``template_refuses``, where no rung of the ladder renders.
    """
    return _climb(conversation, lambda turned: Answers(template.text(turned, prompt=True), ()), loss_on="all").text


def fold(conversation: Whole, words: Collection[str]) -> Whole:
    """Return a conversation in which what the words name stands as text.

    ``tool_calls``: calls as lines of JSON below the content; ``tools``: tools as lines of JSON in the system turn; ``tool``:
    what tools said as the user's; ``system``: system turns as the user's, which puts a system prompt before the first question;
    ``opening``: an empty user turn before an assistant who speaks first. With ``turns``, ``tool`` or ``system`` turns of one
    speaker that follow each other become one, with a blank line between.

    Examples
    --------
    >>> turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    >>> fold(Whole(turns), {"system"}).turns
    [{'role': 'user', 'content': 'Be brief.\\n\\n2 + 2?'}]
    """
    if not words:
        return conversation
    turns, tools = conversation.turns, conversation.tools
    if "tool_calls" in words:
        turns = [_spoken(turn) for turn in turns]
    if "tools" in words and tools:
        first, rest = (turns[0]["content"], turns[1:]) if turns[:1] and turns[0]["role"] == "system" else ("", turns)
        listed = "\n".join(["Tools:", *map(_json, tools)])
        turns, tools = [{"role": "system", "content": _joined(first, listed)}, *rest], None
    heard_as_user = {"tool", "system"} & set(words)
    turns = [{"role": "user", "content": turn["content"]} if turn["role"] in heard_as_user else turn for turn in turns]
    if "opening" in words and turns and turns[0]["role"] == "assistant":
        turns = [{"role": "user", "content": ""}, *turns]
    if {"turns", "tool", "system"} & set(words):
        turns = _merged(turns)
    return Whole(turns, tools)


def _climb(conversation: Whole, attempt: Callable[[Whole], Answers], *, loss_on: LossOn) -> Rendering:
    if any("tool_calls" in turn for turn in conversation.turns):
        conversation = Whole([_with_objects(turn) for turn in conversation.turns], conversation.tools)
    tried: list[Whole] = []
    refusal: SourceError | None = None
    for rung in LADDER:
        if (turned := fold(conversation, rung)) in tried:
            continue
        tried.append(turned)
        try:
            found = _judged(conversation, turned, attempt(turned), loss_on=loss_on)
        except SourceError as error:
            refusal = refusal or error
            continue
        return _carried_best(conversation, attempt, found, rung, loss_on=loss_on)
    raise refusal or SourceError("template_refuses")


def _carried_best(
    conversation: Whole, attempt: Callable[[Whole], Answers], found: Rendering, rung: frozenset[str], *, loss_on: LossOn
) -> Rendering:
    """Return a rendering with what it leaves out folded too, where that carries more."""
    if lost := (FOLDABLE & set(found.not_carried)) - rung:
        for words in dict.fromkeys((rung | lost, *(higher | lost for higher in LADDER))):
            turned = fold(conversation, words)
            try:
                again = _judged(conversation, turned, attempt(turned), loss_on=loss_on)
            except SourceError:
                continue
            if len(again.not_carried) < len(found.not_carried):
                return again
    return found


def _judged(conversation: Whole, turned: Whole, found: Answers, *, loss_on: LossOn) -> Rendering:
    wanted = found.spans if loss_on == "all" else found.spans[-1:]
    spans = tuple(span for span in wanted if span)
    if wanted and not spans:
        raise SourceError("template_rewrites_history")
    adapted = turned is not conversation or len(spans) < len(wanted)
    return Rendering(found.text, spans, adapted, _not_carried(conversation, found))


def _not_carried(conversation: Whole, found: Answers) -> tuple[str, ...]:
    turns, text = conversation.turns, found.text
    lost = {turn["role"] for turn in turns if not _holds(text, turn["content"])}
    if conversation.tools or any(len(turn) > 2 or turn["role"] in FOLDABLE for turn in turns):
        contents = "\0".join(turn["content"] for turn in turns)
        lost |= {turn["role"] for turn in turns if turn["role"] in FOLDABLE and _is_rarer(turn["content"], contents, text)}
        spans = [span for span in found.spans if span]
        inside = text if None in found.spans else "\0".join(text[begin:end] for begin, end in spans)
        sought = {
            "tool_calls": (inside, [part for turn in turns for part in _leaves(turn.get("tool_calls"))]),
            "tools": (_outside(text, spans), [sign for tool in conversation.tools or () for sign in _signs(tool)]),
            "thinking": (text, [turn.get(THINKING[0]) or "" for turn in turns]),
        }
        lost |= {kind for kind, (place, parts) in sought.items() if not all(_holds(place, part) for part in parts)}
    return tuple(kind for kind in KINDS if kind in lost)


def _holds(text: str, part: str) -> bool:
    """Return whether a text holds a part, as it is or as JSON writes it."""
    part = part.strip()
    return part in text or any(json.dumps(part, ensure_ascii=ascii_only)[1:-1] in text for ascii_only in (False, True))


def _is_rarer(part: str, contents: str, text: str) -> bool:
    """Return whether a text holds a part less often than the contents do: a short one may stand in another turn as well."""
    part = part.strip()
    return bool(part) and 0 < text.count(part) < contents.count(part)


def _outside(text: str, spans: Collection[Span]) -> str:
    ends = [0, *(end for _, end in spans)]
    begins = [*(begin for begin, _ in spans), len(text)]
    return "\0".join(text[end:begin] for end, begin in zip(ends, begins, strict=True))


def _signs(tool: Any) -> list[str]:
    """Return the texts by which a tool's definition is known: its name and description, else the names of its parameters."""
    about = tool.get("function", tool) if isinstance(tool, Mapping) else tool
    if not isinstance(about, Mapping):
        return list(_leaves(about))
    told = [about[key] for key in ("name", "description") if isinstance(about.get(key), str)]
    parameters = about.get("parameters")
    named = parameters.get("properties") if isinstance(parameters, Mapping) else None
    return told if "description" in about or not isinstance(named, Mapping) else [*told, *named]


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts of a call: the function's name and what is passed to it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in ("id", "type"):
                yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)


def _with_objects(turn: Turn) -> Turn:
    """Return a turn whose calls pass objects, as templates expect, where they passed an object's JSON text."""
    if not turn.get("tool_calls"):
        return turn
    return {**turn, "tool_calls": [_unpacked(call) for call in turn["tool_calls"]]}


def _unpacked(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _unpacked(call["function"])}
    passed = call.get("arguments")
    try:
        value = json.loads(passed) if isinstance(passed, str) else passed
    except (ValueError, RecursionError):
        return call
    return {**call, "arguments": value} if isinstance(value, Mapping) else call


def _spoken(turn: Turn) -> Turn:
    """Return a turn whose calls are lines of JSON in its content."""
    if not turn.get("tool_calls"):
        return turn
    functions = [call.get("function", call) if isinstance(call, Mapping) else call for call in turn["tool_calls"]]
    kept = {key: value for key, value in turn.items() if key != "tool_calls"}
    return {**kept, "content": _joined(turn["content"], "\n".join(map(_json, functions)))}


def _merged(turns: list[Turn]) -> list[Turn]:
    """Return turns with those of one speaker that follow each other made one; what tools said stays apart."""
    out: list[Turn] = []
    for role, run in groupby(turns, key=lambda turn: turn["role"]):
        same = list(run)
        if role == "tool" or len(same) == 1:
            out += same
            continue
        one = {key: value for turn in reversed(same) for key, value in turn.items()}
        one["content"] = _joined(*(turn["content"] for turn in same))
        if calls := [call for turn in same for call in turn.get("tool_calls") or ()]:
            one["tool_calls"] = calls
        if thoughts := [turn[THINKING[0]] for turn in same if turn.get(THINKING[0])]:
            one |= dict.fromkeys(THINKING, _joined(*thoughts))
        out.append(one)
    return out


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text.strip())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
