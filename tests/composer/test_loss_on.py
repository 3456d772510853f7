"""Which answers are trained on is one decision: counting, encoding and showing agree on it, token by token, at every cut."""

from __future__ import annotations

from typing import Any, get_args

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.conversation import Whole, whole
from composer.encode import Encoding, encode, preview
from composer.ingest.counting import Counter, count
from composer.render import render
from composer.tables import MESSAGE
from composer.template import ChatTemplate
from composer.types import LossOn
from tests.composer.chats import CALLING, CHAT, STRIPPING, raw, said, tokenizer, turns, words

WORDS: tuple[LossOn, ...] = get_args(LossOn)
GENERATION = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '</s>\n' }}{% endgeneration %}{% else %}{{ m['content'] + '</s>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOKENIZERS = {**CHAT, "stripping": tokenizer(STRIPPING), "generation": tokenizer(GENERATION)}
ANSWERS = {
    "chatml": "{}</s>\n",
    "plain": "{}</s>\n",
    "generation": "{}</s>\n",
    "gemma": "{}<end_of_turn>\n",
    "llama2": " {} </s>",
    "qwen3": "<think>\n\n</think>\n\n{}</s>\n",  # the last one; earlier ones have no mark, so they are not trained on
    "stripping": "{}\n",  # the last one; earlier ones are gone
}
"""An answer as each template writes it."""
LATE = (  # from the fourth turn on it writes another word than it asks with
    "{% for m in messages %}{{ ('late' if loop.index0 > 2 else m.role) + ':' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, str]]:
    """Draw a document, or turns that begin and end in many ways."""
    text = raw | words
    if draw(st.integers(0, 9)) == 0:
        return said(("assistant", draw(text)))
    opening = draw(st.sampled_from([(), ("system",), ("assistant",)]))
    roles = [*opening, *draw(st.sampled_from([("user", "assistant"), ("user", "user", "assistant", "assistant")]))]
    roles += ["user", "assistant"] * draw(st.integers(0, 2))
    roles += draw(st.sampled_from([(), (), ("user",)]))
    return said(*((role, draw(text)) for role in roles))


def frame(talks: list[list[dict[str, str]]]) -> pl.DataFrame:
    return pl.DataFrame(
        {"messages": talks, "extras": [None] * len(talks)}, schema={"messages": pl.List(MESSAGE), "extras": pl.String}
    )


def answers(template: str, talk: Whole, *, loss_on: LossOn) -> list[str]:
    found = render(ChatTemplate(tokenizer(template)), talk, loss_on=loss_on)
    return [found.text[begin:end] for begin, end in found.spans]


def check_cut(whole_one: Encoding | str, cut: Encoding | str, row: dict[str, Any], *, at: int) -> None:
    """Check one conversation's encoding and count under a cut against its encoding without one."""
    if isinstance(whole_one, str):
        assert cut == whole_one == row["reason"]
        return
    n_loss = sum(whole_one.trained[1:at])
    assert (row["n_tokens"], row["n_loss_tokens"]) == (min(at, len(whole_one.ids)), n_loss)
    assert row["truncated"] == (at < len(whole_one.ids))
    assert (row["adapted"], tuple(row["not_carried"])) == (whole_one.adapted, whole_one.not_carried)
    if n_loss:
        assert isinstance(cut, Encoding)
        assert (cut.ids, cut.trained) == (whole_one.ids[:at], whole_one.trained[:at])
        assert cut.n_loss_tokens == n_loss
        assert row["reason"] is None
    else:  # a prompt alone is no sample
        assert cut == row["reason"] == "no_loss_tokens"


@pytest.mark.parametrize("loss_on", WORDS)
@pytest.mark.parametrize("name", TOKENIZERS)
@given(talks=st.lists(conversations(), min_size=1, max_size=2))
@settings(max_examples=3, deadline=None)
def test_counting_and_encoding_agree_wherever_a_row_is_cut(
    name: str, loss_on: LossOn, talks: list[list[dict[str, str]]]
) -> None:
    tok = TOKENIZERS[name]
    wholes = encode(tok, talks, max_length=10**6, loss_on=loss_on)
    longest = max((len(each.ids) for each in wholes if isinstance(each, Encoding)), default=1)
    for at in range(1, longest + 2):
        cuts = encode(tok, talks, max_length=at, loss_on=loss_on)
        rows = count(tok, frame(talks), max_length=at, loss_on=loss_on).to_dicts()
        for whole_one, cut, row in zip(wholes, cuts, rows, strict=True):
            check_cut(whole_one, cut, row, at=at)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(talk=conversations())
@settings(max_examples=25, deadline=None)
def test_the_last_answer_is_the_end_of_all_of_them(name: str, talk: list[dict[str, str]]) -> None:
    every, last = (encode(TOKENIZERS[name], [talk], max_length=10**6, loss_on=word)[0] for word in WORDS)
    if isinstance(every, str):
        assert isinstance(last, str)
    elif isinstance(last, Encoding) and last.ids == every.ids:  # else another folding was needed for the last
        first = last.trained.index(True)
        assert last.trained == tuple(i >= first and mark for i, mark in enumerate(every.trained))


@pytest.mark.parametrize("loss_on", WORDS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_trained_tokens_read_as_the_answers_and_nothing_else(name: str, loss_on: LossOn) -> None:
    tok = TOKENIZERS[name]
    said_by = {"user": ["what is the question", "and why", "so"], "assistant": ["the answer is law", "it is", "a law"]}
    talk = [turn for ask, answer in zip(*said_by.values(), strict=True) for turn in turns(ask, answer)]
    talk = [*said(("system", "be brief")), *talk]
    runs = preview(tok, talk, max_length=1000, loss_on=loss_on)
    trained = [text for text, mark in runs if mark]
    wanted = said_by["assistant"] if loss_on == "all" and name not in ("qwen3", "stripping") else said_by["assistant"][-1:]
    assert trained == [ANSWERS[name].format(answer) for answer in wanted]
    untrained = "".join(text for text, mark in runs if not mark)
    assert all(ask in untrained for ask in said_by["user"])
    [encoding] = encode(tok, [talk], max_length=1000, loss_on=loss_on)
    assert isinstance(encoding, Encoding)
    marked = [i for i, mark in zip(encoding.ids, encoding.trained, strict=True) if mark]
    assert tok.decode(marked, clean_up_tokenization_spaces=False) == "".join(trained)
    assert "".join(text for text, _ in runs) == tok.decode(encoding.ids, clean_up_tokenization_spaces=False)


def test_generation_blocks_mark_the_same_tokens() -> None:
    tok = TOKENIZERS["generation"]
    talk = [*said(("system", "be brief")), *turns("what is it", "the law", "and why", "it is the answer")]
    theirs = tok.apply_chat_template(talk, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    [ours] = encode(tok, [talk], max_length=1000)
    assert isinstance(ours, Encoding)
    assert (list(ours.ids), list(map(int, ours.trained))) == (theirs["input_ids"], theirs["assistant_masks"])


@pytest.mark.parametrize("before", ["", "{% set ns = namespace() %}"], ids=["in turn", "looking about"])
def test_a_last_answer_that_stands_otherwise_than_it_is_asked_for_is_no_sample(before: str) -> None:
    talk, template = turns("what", "law", "why", "it is"), before + LATE
    assert answers(template, whole(talk, None), loss_on="all") == ["law\n"]
    found = encode(tokenizer(template), [talk, talk[:2]], max_length=1000, loss_on="last")
    assert [each if isinstance(each, str) else each.n_loss_tokens > 0 for each in found] == ["template_rewrites_history", True]


def test_turns_that_a_template_wants_as_one_are_one_answer() -> None:
    talk = whole(said(("user", "what"), ("assistant", "law"), ("user", "why"), ("assistant", "it"), ("assistant", "is")), None)
    merged, apart = (render(ChatTemplate(CHAT[name]), talk, loss_on="last") for name in ("gemma", "chatml"))
    assert [merged.text[a:b] for a, b in merged.spans] == ["it\n\nis<end_of_turn>\n"]
    assert [apart.text[a:b] for a, b in apart.spans] == ["is</s>\n"]
    assert (merged.adapted, apart.adapted) == (True, False)


def test_answers_that_are_not_wanted_make_no_row_adapted() -> None:
    talk = whole(turns("what", "law", "why", "it is"), None)
    template = ChatTemplate(CHAT["qwen3"])
    assert [render(template, talk, loss_on=word).adapted for word in WORDS] == [True, False]
    every, last = (render(ChatTemplate(CHAT["plain"]), CALLING, loss_on=word) for word in WORDS)
    assert (last.text, last.spans, last.not_carried) == (every.text, every.spans[-1:], every.not_carried)


def test_several_processes_count_the_last_answer_as_one_does() -> None:
    rows = frame([turns("the question " * i, "the law", "why", f"it is {i}") for i in range(1, 12)])
    one = count(CHAT["chatml"], rows, max_length=60, loss_on="last")
    with Counter(CHAT["chatml"], max_length=60, loss_on="last", processes=2) as counter:
        assert counter.count(rows).equals(one)
    assert set(one["reason"]) == {None, "no_loss_tokens"}
    assert not one.equals(count(CHAT["chatml"], rows, max_length=60))
