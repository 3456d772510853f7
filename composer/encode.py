"""Messages to tokens, with a mark on every token that is trained on: the one place where a chat template is applied.

Ingest counts with it, the trainer makes its batches with it and evaluation measures with it, so their counts agree to the
token. The marked tokens are those of the assistant's turns, found as text: the conversation is rendered up to each assistant
turn and after it, and the characters between are the answer, its end marker included (for an assistant who speaks first, its
content and what follows). A template whose rendering of a beginning is not a beginning of the rendering cannot be marked so and
is refused for that row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from composer.errors import ModelError, SourceError

Message = Mapping[str, str]

PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ '### ' + m['role'] + '\n' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}"
)


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    eos_token_id: int | None
    bos_token_id: int | None
    chat_template: Any

    def __call__(self, text: list[str], **options: Any) -> Any: ...

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...

    def decode(self, token_ids: Any, **options: Any) -> Any: ...


@dataclass(frozen=True)
class Encoding:
    """Token ids of one sample and, of the same length, whether each is trained on."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]

    @property
    def n_loss_tokens(self) -> int:
        """How many tokens are trained on; the first token of a text has no prediction and never counts."""
        return sum(self.trained[1:])


def load_tokenizer(path: str | Path, *, chat_template: str = "auto") -> Any:
    """Return the tokenizer of a model folder or Hub id.

    ``chat_template`` is ``auto`` (the tokenizer's own, else a plain one with ``### user`` headings), ``plain``, or the path of
    a Jinja file.

    Raises
    ------
    ModelError
        Where there is no tokenizer at that path, or the template file is missing.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        hint = "give a folder with tokenizer.json, or a Hub id that can be reached"
        raise ModelError(
            f"no tokenizer: {str(error).splitlines()[0][:160]}", where="base_model.path", got=str(path), hint=hint
        ) from None
    if not tokenizer.is_fast:
        raise ModelError(
            "not a fast tokenizer", where="base_model.path", got=type(tokenizer).__name__, expected="a tokenizer.json"
        )
    if chat_template == "plain" or (chat_template == "auto" and not tokenizer.chat_template):
        tokenizer.chat_template = PLAIN_TEMPLATE
    elif chat_template != "auto":
        file = Path(chat_template)
        if not file.is_file():
            raise ModelError(
                "no such template file", where="base_model.chat_template", got=chat_template, expected="auto, plain or a file"
            )
        tokenizer.chat_template = file.read_text(encoding="utf-8")
    return tokenizer


def encode(tokenizer: Tokenizer, conversations: Sequence[Sequence[Message]], *, max_length: int) -> list[Encoding | str]:
    """Return an Encoding per conversation, or the reason in words why it cannot be trained on.

    Texts are rendered by the chat template, tokenised in one batch and cut after ``max_length`` tokens. A conversation of a
    single assistant turn is a plain document: it is tokenised without the template and trained on whole.
    """
    out: list[Encoding | str] = ["not encoded"] * len(conversations)
    rendered: list[tuple[int, str, list[tuple[int, int]]]] = []
    for i, messages in enumerate(conversations):
        try:
            rendered.append((i, *render(tokenizer, messages)))
        except SourceError as error:
            out[i] = error.what
    if not rendered:
        return out
    batch = tokenizer([text for _, text, _ in rendered], add_special_tokens=False)
    for (i, text, spans), ids, found in zip(rendered, batch["input_ids"], batch.encodings, strict=True):
        trained = _inside(found, spans, n_tokens=len(ids), n_chars=len(text))
        if len(conversations[i]) == 1:  # a document begins and ends as a text does
            ids, trained = _bounded(tokenizer, ids, trained)
        encoding = Encoding(tuple(ids[:max_length]), tuple(trained[:max_length]))
        out[i] = encoding if encoding.n_loss_tokens else "no_loss_tokens"
    return out


def render(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
    """Return the conversation as text and the character spans of the assistant's turns.

    Raises
    ------
    SourceError
        Where the template refuses the conversation, or its rendering of a beginning is not a beginning of its rendering; the
        message is the reason under which the row is counted.
    """
    conversation = [dict(message) for message in messages]
    if len(conversation) == 1 and conversation[0]["role"] == "assistant":
        text = conversation[0]["content"]
        return text, [(0, len(text))]
    full = _template(tokenizer, conversation, prompt=False)
    spans: list[tuple[int, int]] = []
    for i, message in enumerate(conversation):
        if message["role"] != "assistant":
            continue
        before = (
            _template(tokenizer, conversation[:i], prompt=True) if i else full[: max(full.find(message["content"].strip()), 0)]
        )
        after = _template(tokenizer, conversation[: i + 1], prompt=False) if i + 1 < len(conversation) else full
        if not (full.startswith(before) and full.startswith(after) and len(before) <= len(after)):
            raise SourceError("template_rewrites_history")
        spans.append((len(before), len(after)))
    return full, spans


def prompt_ids(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Return the tokens of a conversation that waits for the assistant's answer."""
    text = _template(tokenizer, [dict(message) for message in messages], prompt=True)
    return list(tokenizer([text], add_special_tokens=False)["input_ids"][0])


def _template(tokenizer: Tokenizer, conversation: list[dict[str, str]], *, prompt: bool) -> str:
    import jinja2

    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=prompt)
    except (jinja2.TemplateError, ValueError, KeyError, TypeError) as error:
        raise SourceError("template_refuses", got=str(error)[:200]) from None
    return str(text)


def _inside(encoding: Any, spans: Sequence[tuple[int, int]], *, n_tokens: int, n_chars: int) -> list[bool]:
    """Mark the tokens of the spans; a token that straddles a span's beginning belongs to the answer."""
    marks = [False] * n_tokens
    for begin, end in spans:
        first, after = (_token_at(encoding, char, n_tokens=n_tokens, n_chars=n_chars) for char in (begin, end))
        marks[first:after] = [True] * (after - first)
    return marks


def _token_at(encoding: Any, char: int, *, n_tokens: int, n_chars: int) -> int:
    """Return the token of a character, or of the next one that has a token."""
    while char < n_chars:
        token = encoding.char_to_token(char)
        if token is not None:
            return int(token)
        char += 1
    return n_tokens


def _bounded(tokenizer: Tokenizer, ids: list[int], trained: list[bool]) -> tuple[list[int], list[bool]]:
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return [*begin, *ids, *end], [*[False] * len(begin), *trained, *[True] * len(end)]
