"""A tokenizer's chat template: conversations to text, and where in the text the answers lie.

An answer is found as text: the conversation is rendered up to it and after it, and the characters between are the answer, its
end marker included. A template that writes turn after turn, each without a look at the others, need not be rendered so often:
its own syntax tree shows that it is of that kind, and then one rendering that notes where each turn begins says the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol

from composer.conversation import THINKING, Whole
from composer.errors import SourceError

if TYPE_CHECKING:
    from jinja2 import nodes

PLAIN_TEMPLATE = (
    "{% if tools %}{{ '### tools\n' }}{% for t in tools %}{{ t | tojson + '\n' }}{% endfor %}{% endif %}"
    "{% for m in messages %}{{ '### ' + m['role'] + '\n' }}"
    "{% if m['thinking'] %}{{ '<think>\n' + m['thinking'] + '\n</think>\n' }}{% endif %}{{ m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}{% if m['content'] or loop.index0 %}{{ '\n' }}{% endif %}"
    "{% set f = c['function'] or c %}{{ '<tool_call>\n' }}"
    "{{ {'name': f['name'], 'arguments': f['arguments'] or {}} | tojson }}{{ '\n</tool_call>' }}{% endfor %}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}"
)
"""The template of a tokenizer that has none: headings, with thinking and calls in the tags that most models know."""

Turn = dict[str, Any]
Span = tuple[int, int]


class Tokenizer(Protocol):
    """The part of a fast transformers tokenizer that is used here."""

    eos_token_id: int | None
    bos_token_id: int | None
    chat_template: Any
    split_special_tokens: bool

    @property
    def special_tokens_map(self) -> dict[str, str]: ...

    @property
    def backend_tokenizer(self) -> Any: ...

    def get_chat_template(self, chat_template: str | None = None, tools: list[Any] | None = None) -> str: ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...

    def decode(self, token_ids: Any, **options: Any) -> Any: ...


@dataclass(frozen=True)
class Answers:
    """A rendered conversation and the characters of its answers.

    An answer has a span where the model would have been asked for it in just this text: what stands before it is the rendering
    of the turns before it, and what ends with it that of the turns up to it. The others have None in their place.
    """

    text: str
    spans: tuple[Span | None, ...]


class ChatTemplate:
    """The chat template of a tokenizer, as it is at this moment.

    Examples
    --------
    >>> from composer.conversation import whole
    >>> class Words:
    ...     special_tokens_map = {"eos_token": "</s>"}
    ...     def get_chat_template(self, chat_template=None, tools=None):
    ...         return PLAIN_TEMPLATE
    >>> ask, answer = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
    >>> found = ChatTemplate(Words()).answers(whole([ask, answer], None))
    >>> found.text, [found.text[begin:end] for begin, end in found.spans]
    ('### user\\n2 + 2?\\n### assistant\\n4</s>\\n', ['4</s>\\n'])
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._constants = {"tools": None, "documents": None, **tokenizer.special_tokens_map}
        self._template: Any = None
        self._opening: str | None = None  # what asks for an answer, of a template that writes turn after turn
        with suppress(*_failures()):  # a failure is met again, and named, at every row
            self._template, in_turn = _compiled(tokenizer.get_chat_template())
            if in_turn:
                text, [begin] = self._stream([], prompt=True)
                self._opening = text[begin:]

    def text(self, conversation: Whole, *, prompt: bool = False) -> str:
        """Return the conversation as text; with ``prompt`` up to where the assistant's answer begins.

        Raises
        ------
        SourceError
            ``template_refuses``, with the template's own words.
        """
        options = {"tokenize": False, "add_generation_prompt": prompt}
        try:
            if self._template is not None and _is_plain(conversation):
                return str(self._template.render(self._values(conversation.turns, prompt=prompt)))
            return str(self._tokenizer.apply_chat_template(conversation.turns, tools=conversation.tools, **options))
        except _failures() as error:
            raise SourceError("template_refuses", got=str(error)[:200]) from None

    def answers(self, conversation: Whole) -> Answers:
        """Return the conversation as text and the spans of its answers.

        Raises
        ------
        SourceError
            ``template_refuses``, with the template's own words.
        """
        places = [i for i, turn in enumerate(conversation.turns) if turn["role"] == "assistant"]
        cut = self._cut_in_turn if self._opening is not None and _is_plain(conversation) else self._cut
        text, spans = cut(conversation, places)
        return Answers(text, tuple(spans))

    def _cut(self, conversation: Whole, places: Sequence[int]) -> tuple[str, list[Span | None]]:
        """Render the conversation, and for every answer the turns before it and the turns up to it."""
        turns, tools = conversation.turns, conversation.tools
        text = self.text(conversation)
        spans: list[Span | None] = []
        refusal = None
        for i in places:
            try:
                before = self.text(Whole(turns[:i], tools), prompt=True) if i else text[: _first(text, turns[0])]
                after = self.text(Whole(turns[: i + 1], tools)) if i + 1 < len(turns) else text
            except SourceError as error:
                refusal = error
                spans.append(None)
                continue
            stands = text.startswith(before) and text.startswith(after) and len(before) <= len(after)
            spans.append((len(before), len(after)) if stands else None)
        if refusal and not any(spans):
            raise refusal
        return text, spans

    def _cut_in_turn(self, conversation: Whole, places: Sequence[int]) -> tuple[str, list[Span | None]]:
        """Say what :meth:`_cut` says of a template that writes turn after turn: all its renderings share their beginnings."""
        turns, opening = conversation.turns, self._opening or ""
        try:
            text, begins = self._stream(turns, prompt=False)
        except _failures() as error:
            raise SourceError("template_refuses", got=str(error)[:200]) from None
        ending = text[begins[-1] :]
        spans: list[Span | None] = []
        for i in places:
            last = i + 1 == len(turns)
            begin = begins[i] + len(opening) if i else _first(text, turns[0])
            end = len(text) if last else begins[i + 1] + len(ending)
            asked = not i or text.startswith(opening, begins[i])
            stands = asked and (last or text.startswith(ending, begins[i + 1])) and begin <= end
            spans.append((begin, end) if stands else None)
        return text, spans

    def _stream(self, turns: Sequence[Turn], *, prompt: bool) -> tuple[str, list[int]]:
        """Return the rendering, the place in it at which the template took up each turn, and that at which it had no more."""
        pieces: list[str] = []
        marks: list[int] = []

        def noted() -> Iterator[Turn]:
            for turn in turns:
                marks.append(len(pieces))
                yield turn
            marks.append(len(pieces))

        pieces.extend(self._template.generate(self._values(noted(), prompt=prompt)))
        lengths = [0, *accumulate(map(len, pieces))]
        return "".join(pieces), [lengths[mark] for mark in marks]

    def _values(self, turns: Any, *, prompt: bool) -> dict[str, Any]:
        return {**self._constants, "messages": turns, "add_generation_prompt": prompt}


@lru_cache
def _failures() -> tuple[type[Exception], ...]:
    """Return the ways in which a template, which is a program of others, may fail."""
    import jinja2

    return jinja2.TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError


@lru_cache
def _compiled(template: str) -> tuple[Any, bool]:
    """Return a template as transformers compiles it (None where it no longer says how), and whether it writes in turn."""
    from transformers.utils import chat_template_utils

    if not hasattr(chat_template_utils, "_compile_jinja_template"):
        return None, False
    compiled = chat_template_utils._compile_jinja_template(template)
    return compiled, _writes_in_turn(compiled.environment.parse(template))


def _writes_in_turn(tree: nodes.Template) -> bool:
    """Return whether a template is a loop over the messages in which no turn can know of another, nor of the prompt's end.

    Only plain statements and expressions are let through, the messages are named once, by that loop, and nothing that the loop
    sets outlives a turn. What comes after the loop then depends on whether an answer is asked for and on no message.
    """
    from jinja2 import nodes

    loops = [node for node in tree.body if isinstance(node, nodes.For)]
    if len(loops) != 1:
        return False
    loop = loops[0]
    outside = [node for node in tree.body if node is not loop]
    early = tree.body[: tree.body.index(loop) + 1]
    names = list(tree.find_all(nodes.Name))
    of_loop = [node for node in tree.find_all(nodes.Getattr) if isinstance(node.node, nodes.Name) and node.node.name == "loop"]
    return (
        isinstance(loop.iter, nodes.Name)
        and loop.iter.name == "messages"
        and sum(node.name == "messages" for node in names) == 1
        and not (loop.test or loop.else_ or loop.recursive)
        and all(node.attr in ("first", "index", "index0") for node in of_loop)
        and len(of_loop) == sum(node.name == "loop" for node in names)
        and not any(name.name == "add_generation_prompt" for node in early for name in node.find_all(nodes.Name))
        and not any(isinstance(node, nodes.Assign) or any(node.find_all(nodes.Assign)) for node in outside)
        and all(_is_harmless(node) for node in tree.find_all(nodes.Node))
    )


def _is_harmless(node: nodes.Node) -> bool:
    """Return whether a node of a template's tree can keep nothing from one turn to the next."""
    from jinja2 import nodes

    if isinstance(node, nodes.Call):  # functions such as cycler, joiner and namespace remember
        called = node.node
        return isinstance(called, nodes.Getattr) or (isinstance(called, nodes.Name) and called.name == "raise_exception")
    if isinstance(node, nodes.Filter):
        return node.name != "random"
    plain = (nodes.Output, nodes.If, nodes.For, nodes.Assign, nodes.Expr, nodes.Pair, nodes.Keyword, nodes.Operand)
    return isinstance(node, plain) and not isinstance(node, nodes.NSRef)


def _is_plain(conversation: Whole) -> bool:
    return not conversation.tools and all(len(turn) == 2 for turn in conversation.turns)


def _first(text: str, turn: Turn) -> int:
    """Return where the answer begins of an assistant who speaks first, before whom there is nothing to render."""
    said = (turn.get(THINKING[0]), turn["content"])
    found = [text.find(part.strip()) for part in said if part and part.strip()]
    return max(0, min((place for place in found if place >= 0), default=0))
