"""Messages to tokens, with a mark on every token that is trained on: the one place where conversations become tokens.

Ingest counts with it, the trainer makes its batches with it and evaluation measures with it, so their counts agree to the
token. The marked tokens are those of the answers (of all, or of the last: ``loss_on``), which :mod:`composer.render` finds as
characters of the rendered text; a token that straddles an answer's beginning belongs to the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from composer.conversation import Message, Whole, whole
from composer.errors import ModelError, SourceError
from composer.render import Rendering, render, render_prompt
from composer.template import PLAIN_TEMPLATE as PLAIN_TEMPLATE
from composer.template import ChatTemplate
from composer.template import Tokenizer as Tokenizer
from composer.types import LossOn

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "chat_template*", "*.model", "*.tiktoken")

Conversation = Whole | Sequence[Message]
"""A conversation whole, or its messages where they are all there is."""


@dataclass(frozen=True)
class Encoding:
    """Token ids of one sample and, of the same length, whether each is trained on.

    ``adapted`` and ``not_carried`` say what became of the sample on its way through the chat template (:mod:`composer.render`).
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    adapted: bool = False
    not_carried: tuple[str, ...] = ()

    @property
    def n_loss_tokens(self) -> int:
        """How many tokens are trained on; the first token of a text has no prediction and never counts."""
        return sum(self.trained[1:])


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of a model folder that make its tokenizer, with its chat template, sorted by path."""
    return tuple(sorted({file for pattern in TOKENIZER_FILES for file in folder.glob(pattern)}))


def no_tokenizer(folder: Path) -> ModelError:
    """Return the error of a model folder that no tokenizer lies in."""
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    hint = "copy the tokenizer's files there from the model that it was made of"
    expected = "tokenizer.json beside config.json"
    return ModelError(
        "no tokenizer in this folder", where="base_model.path", expected=expected, got=f"{folder} with {names}", hint=hint
    )


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
        if Path(path).is_dir() and not tokenizer_files(Path(path)):
            raise no_tokenizer(Path(path)) from None
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


def encode(
    tokenizer: Tokenizer, conversations: Sequence[Conversation], *, max_length: int, loss_on: LossOn = "all"
) -> list[Encoding | str]:
    """Return an Encoding per conversation, or the reason in words why it cannot be trained on.

    Texts are rendered by the chat template, tokenised in one batch and cut after ``max_length`` tokens. ``loss_on`` says which
    answers are trained on; one without a token of them is never returned as an Encoding. A conversation of a single assistant
    turn is a plain document: it is tokenised without the template and trained on whole. The reasons are ``template_refuses``,
    ``template_rewrites_history`` and ``no_loss_tokens``.
    """
    template = ChatTemplate(tokenizer)
    rendered = [rendering_of(template, conversation, loss_on=loss_on) for conversation in conversations]
    found = iter(tokens(tokenizer, [rendering.text for rendering in rendered if isinstance(rendering, Rendering)]))
    return [
        rendering if isinstance(rendering, str) else _encoded(tokenizer, rendering, next(found), max_length=max_length)
        for rendering in rendered
    ]


def prompt_ids(tokenizer: Tokenizer, conversation: Conversation) -> list[int]:
    """Return the tokens of a conversation that waits for the assistant's answer.

    Raises
    ------
    SourceError
        ``template_refuses``, where the chat template takes it in no way.
    """
    [found] = tokens(tokenizer, [render_prompt(ChatTemplate(tokenizer), as_whole(conversation))])
    return list(found.ids)


def preview(
    tokenizer: Tokenizer, conversation: Conversation, *, max_length: int, loss_on: LossOn = "all"
) -> list[tuple[str, bool | None]]:
    """Return the conversation as the model reads it: the texts of its tokens in runs, each with whether it is trained on.

    The runs that a cut after ``max_length`` tokens leaves out come last and are marked None.

    Raises
    ------
    SourceError
        Where the chat template does not carry the conversation; the message is the reason.
    """
    rendering = render(ChatTemplate(tokenizer), as_whole(conversation), loss_on=loss_on)
    [found] = tokens(tokenizer, [rendering.text])
    ids, trained = _marked(tokenizer, rendering, found)
    trained[:1] = [False] * len(trained[:1])  # nothing predicts the first token
    marks: list[bool | None] = [*trained[:max_length], *[None] * len(ids[max_length:])]
    runs = groupby(zip(ids, marks, strict=True), key=lambda token: token[1])
    return [(str(tokenizer.decode([i for i, _ in run], clean_up_tokenization_spaces=False)), mark) for mark, run in runs]


def wholes(samples: pl.DataFrame) -> list[Whole]:
    """Return the conversations of a frame with ``messages`` and ``extras``, row by row."""
    pairs = zip(samples["messages"].to_list(), samples["extras"].to_list(), strict=True)
    return [Whole(messages) if extras is None else whole(messages, extras) for messages, extras in pairs]


def as_whole(conversation: Conversation) -> Whole:
    """Return a conversation whole; messages alone have no extras."""
    return conversation if isinstance(conversation, Whole) else whole(conversation, None)


def rendering_of(template: ChatTemplate, conversation: Conversation, *, loss_on: LossOn) -> Rendering | str:
    """Return a conversation's rendering, or the reason why it has none."""
    try:
        return render(template, as_whole(conversation), loss_on=loss_on)
    except SourceError as error:
        return error.what


def tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Any]:
    """Return the ``tokenizers.Encoding`` of every text, whole and without added special tokens."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # a tokenizer file may ask for either
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return list(backend.encode_batch(list(texts), add_special_tokens=False))


def token_at(found: Any, char: int, *, n_chars: int) -> int:
    """Return the token of a character, or of the next one that has a token."""
    n_tokens = len(found)
    if char >= n_chars:
        return n_tokens
    token = found.char_to_token(char)
    if token is not None:
        return int(token)
    later = [(begin, i) for i, (begin, end) in enumerate(found.offsets) if char < begin < end]
    return min(later)[1] if later else n_tokens


def _encoded(tokenizer: Tokenizer, rendering: Rendering, found: Any, *, max_length: int) -> Encoding | str:
    ids, trained = _marked(tokenizer, rendering, found)
    encoding = Encoding(tuple(ids[:max_length]), tuple(trained[:max_length]), rendering.adapted, rendering.not_carried)
    return encoding if encoding.n_loss_tokens else "no_loss_tokens"


def _marked(tokenizer: Tokenizer, rendering: Rendering, found: Any) -> tuple[list[int], list[bool]]:
    ids, n_chars = found.ids, len(rendering.text)
    trained = [False] * len(ids)
    for span in rendering.spans:
        first, after = (token_at(found, char, n_chars=n_chars) for char in span)
        trained[first:after] = [True] * (after - first)
    if rendering.document:  # it begins and ends as a text does
        begin, end = ends_of(tokenizer)
        ids, trained = [*begin, *ids, *end], [*[False] * len(begin), *trained, *[True] * len(end)]
    return ids, trained


def ends_of(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the tokens that a document begins with and ends with, where the tokenizer has them."""
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    return [] if begin is None else [begin], [] if end is None else [end]
