"""The tokens that are trained on are exactly the assistant's turns, as they always were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.conversation import whole
from composer.encode import PLAIN_TEMPLATE, Encoding, encode, load_tokenizer, preview, prompt_ids
from composer.errors import ModelError, SourceError
from composer.render import render
from composer.template import ChatTemplate
from tests.composer.chats import (
    CALLING,
    CHAT,
    CHATML,
    REFUSING,
    REWRITING,
    STRIPPING,
    SYSTEM,
    TEMPLATES,
    said,
    talks,
    tokenizer,
    turns,
    words,
)

OLD_PLAIN = (
    "{% for m in messages %}{{ '### ' + m['role'] + '\n' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}"
)


def trained_text(tok: Any, encoding: Encoding | str) -> str:
    assert isinstance(encoding, Encoding)
    return str(tok.decode([i for i, t in zip(encoding.ids, encoding.trained, strict=True) if t], skip_special_tokens=True))


def old_render(tok: Any, messages: Sequence[Mapping[str, str]]) -> tuple[str, list[tuple[int, int]]] | str:
    """What rendering was before: every beginning of the conversation is rendered for itself."""
    conversation = [dict(message) for message in messages]
    if len(conversation) == 1 and conversation[0]["role"] == "assistant":
        return conversation[0]["content"], [(0, len(conversation[0]["content"]))]

    def text(part: list[dict[str, str]], *, prompt: bool) -> str:
        return str(tok.apply_chat_template(part, tokenize=False, add_generation_prompt=prompt))

    full = text(conversation, prompt=False)
    spans: list[tuple[int, int]] = []
    for i, message in enumerate(conversation):
        if message["role"] == "assistant":
            before = text(conversation[:i], prompt=True) if i else full[: max(full.find(message["content"].strip()), 0)]
            after = text(conversation[: i + 1], prompt=False)
            if not (full.startswith(before) and full.startswith(after) and len(before) <= len(after)):
                return "template_rewrites_history"
            spans.append((len(before), len(after)))
    return full, spans


def old_encode(tok: Any, messages: Sequence[Mapping[str, str]], *, max_length: int) -> tuple[Any, Any] | str:
    """What encoding was before: every character of a span is asked for its token until one has one."""
    found = old_render(tok, messages)
    if isinstance(found, str):
        return found
    text, spans = found
    [tokenised] = tok([text], add_special_tokens=False).encodings
    ids, marks = list(tokenised.ids), [False] * len(tokenised.ids)
    for span in spans:
        first, after = (
            next(
                (tokenised.char_to_token(c) for c in range(char, len(text)) if tokenised.char_to_token(c) is not None), len(ids)
            )
            for char in span
        )
        marks[first:after] = [True] * (after - first)
    if len(messages) == 1:
        ids, marks = [tok.bos_token_id, *ids, tok.eos_token_id], [False, *marks, True]
    ids, marks = ids[:max_length], marks[:max_length]
    return (tuple(ids), tuple(marks)) if sum(marks[1:]) else "no_loss_tokens"


@pytest.mark.parametrize("name", ["chatml", "plain"])
@given(talk=talks.filter(lambda talk: "assistant" in dict(talk)), max_length=st.integers(1, 80))
@settings(max_examples=120, deadline=None)
def test_rows_without_extras_are_what_they_always_were(name: str, talk: list[tuple[str, str]], max_length: int) -> None:
    tok = CHAT[name]
    [encoding] = encode(tok, [said(*talk)], max_length=max_length)
    old = tok if name == "chatml" else tokenizer(OLD_PLAIN)
    now = encoding if isinstance(encoding, str) else (encoding.ids, encoding.trained)
    assert now == old_encode(old, said(*talk), max_length=max_length)
    assert isinstance(encoding, str) or not (encoding.adapted or encoding.not_carried)


@pytest.mark.parametrize("name", ["chatml", "plain"])
@given(contents=st.lists(words, min_size=2, max_size=6).filter(lambda c: len(c) % 2 == 0))
@settings(max_examples=40, deadline=None)
def test_decoding_the_marked_tokens_gives_the_answers(name: str, contents: Sequence[str]) -> None:
    tok = CHAT[name]
    [encoding] = encode(tok, [turns(*contents)], max_length=10_000)
    assert trained_text(tok, encoding).split() == "\n".join(contents[1::2]).split()


@pytest.mark.parametrize("name", ["chatml", "plain"])
def test_the_end_marker_is_trained_on_and_the_prompt_is_not(name: str) -> None:
    tok = CHAT[name]
    [encoding] = encode(tok, [turns("what is it", "law")], max_length=100)
    assert isinstance(encoding, Encoding)
    prompt = prompt_ids(tok, turns("what is it"))
    assert list(encoding.ids[: len(prompt)]) == prompt
    assert not any(encoding.trained[: len(prompt)])
    assert tok.eos_token_id in [i for i, t in zip(encoding.ids, encoding.trained, strict=True) if t]


def test_the_header_of_an_assistant_who_speaks_first_is_not_trained_on() -> None:
    tok = CHAT["chatml"]
    [encoding] = encode(tok, [said(("assistant", "law"), ("user", "what"), ("assistant", "answer"))], max_length=100)
    assert isinstance(encoding, Encoding)
    opening = tok("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    assert list(encoding.ids[: len(opening)]) == opening
    assert not any(encoding.trained[: len(opening)])
    assert trained_text(tok, encoding).split() == ["law", "answer"]


def test_a_batch_is_its_rows() -> None:
    rows = [turns("a", "b"), turns("what is the question", "the answer"), [{"role": "assistant", "content": "a document"}]]
    assert encode(CHAT["chatml"], rows, max_length=50) == [encode(CHAT["chatml"], [row], max_length=50)[0] for row in rows]


def test_a_document_is_trained_on_whole_and_ends() -> None:
    tok = CHAT["chatml"]
    [encoding] = encode(tok, [[{"role": "assistant", "content": "the answer is law"}]], max_length=50)
    assert isinstance(encoding, Encoding)
    assert encoding.ids[0] == tok.bos_token_id
    assert encoding.ids[-1] == tok.eos_token_id
    assert encoding.n_loss_tokens == len(encoding.ids) - 1


def test_truncation_and_rows_without_loss() -> None:
    tok = CHAT["chatml"]
    [cut] = encode(tok, [turns("a", "the answer is law " * 20)], max_length=40)
    assert isinstance(cut, Encoding)
    assert len(cut.ids) == 40
    assert encode(tok, [turns("the question " * 50, "law")], max_length=12) == ["no_loss_tokens"]


def test_a_tokenizer_file_that_truncates_and_pads_does_neither_here() -> None:
    tok = tokenizer(CHATML)
    tok.backend_tokenizer.enable_truncation(3)
    tok.backend_tokenizer.enable_padding(length=99)
    rows = [turns("what is the question", "the answer"), turns("a", "b")]
    assert encode(tok, rows, max_length=500) == encode(CHAT["chatml"], rows, max_length=500)


def test_a_template_that_rewrites_or_refuses_is_named_and_loses_no_other_row() -> None:
    rows = [turns("a", "b", "c", "d"), turns("a", "b")]
    assert encode(tokenizer(REFUSING), rows, max_length=50) == ["template_refuses"] * 2
    assert encode(tokenizer("{% for broken"), rows, max_length=50) == ["template_refuses"] * 2
    assert encode(tokenizer(REWRITING), rows, max_length=50) == ["template_rewrites_history"] * 2
    with pytest.raises(SourceError, match="template_refuses; got roles must alternate"):
        render(ChatTemplate(tokenizer(REFUSING)), whole(turns("a", "b"), None))
    picky = tokenizer("{% if messages[0].content == 'x' %}{{ messages.nothing.more }}{% endif %}" + CHATML)
    assert [isinstance(found, Encoding) for found in encode(picky, [turns("x", "b"), turns("a", "b")], max_length=50)] == [
        False,
        True,
    ]


def test_of_a_rewritten_history_the_answers_that_stand_are_trained_on() -> None:
    tok = tokenizer(STRIPPING)
    [encoding] = encode(tok, [turns("a", "lost words", "c", "the law")], max_length=50)
    assert trained_text(tok, encoding).split() == ["the", "law"]
    assert isinstance(encoding, Encoding)
    assert (encoding.adapted, encoding.not_carried) == (True, ("assistant",))
    prompt = prompt_ids(tok, turns("a", "lost words", "c"))
    assert list(encoding.ids[: len(prompt)]) == prompt


def test_whole_conversations_and_messages_may_be_mixed() -> None:
    rows: list[Any] = [SYSTEM, whole(SYSTEM, None), CALLING]
    first, second, third = encode(CHAT["plain"], rows, max_length=4000)
    assert first == second
    assert isinstance(third, Encoding)
    assert len(third.ids) > 100


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_preview_shows_what_is_trained_on_and_where_the_cut_is(name: str) -> None:
    tok = CHAT[name]
    talk = turns("what is the question", "the answer", "why", "the law")
    [encoding] = encode(tok, [talk], max_length=1000)
    assert isinstance(encoding, Encoding)
    pieces = preview(tok, talk, max_length=1000)
    assert "".join(text for text, _ in pieces) == tok.decode(encoding.ids)
    assert "".join(text for text, trained in pieces if trained) == tok.decode(
        [i for i, t in zip(encoding.ids, encoding.trained, strict=True) if t]
    )
    assert {trained for _, trained in pieces} == {True, False}
    cut = preview(tok, talk, max_length=len(encoding.ids) - 2)
    assert [trained for _, trained in cut].index(None) == len(cut) - 1
    assert cut[-1][0] == tok.decode(encoding.ids[-2:])
    assert preview(tok, talk, max_length=2)[-1][1] is None
    document = preview(tok, [{"role": "assistant", "content": "the law"}], max_length=9)
    assert document == [("<s>", False), ("the law</s>", True)]
    with pytest.raises(SourceError, match="template_refuses"):
        preview(tokenizer(REFUSING), talk, max_length=9)


def test_load_tokenizer_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"base_model\.path: no tokenizer"):
        load_tokenizer(tmp_path)
    tokenizer(CHATML).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no such template file; expected auto, plain or a file"):
        load_tokenizer(tmp_path, chat_template="missing.jinja")
    assert load_tokenizer(tmp_path).chat_template == CHATML
    assert load_tokenizer(tmp_path, chat_template="plain").chat_template == PLAIN_TEMPLATE
    tokenizer(None).save_pretrained(tmp_path / "bare")
    assert load_tokenizer(tmp_path / "bare").chat_template == PLAIN_TEMPLATE
