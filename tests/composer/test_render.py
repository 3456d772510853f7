"""No row is lost because a template is picky: what it cannot say is folded into what it can, or told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.conversation import Whole, extras_of, whole
from composer.render import LADDER, Rendering, fold, render, render_prompt
from composer.template import ChatTemplate
from tests.composer.chats import CALLING, CHAT, SYSTEM, TEMPLATES, THOUGHTFUL, TOOLS, said, talks, tokenizer


def rendered(name: str, conversation: Whole) -> Rendering:
    return render(ChatTemplate(CHAT[name]), conversation)


def answers(rendering: Rendering) -> list[str]:
    return [rendering.text[begin:end] for begin, end in rendering.spans]


THINKING = whole(
    said(("user", "2 + 2?"), ("assistant", "4"), ("user", "3 + 3?"), ("assistant", "6")),
    extras_of({1: {"thinking": "two and two"}, 3: {"thinking": "three and three"}}, None),
)


def test_thinking_that_the_template_strips_from_earlier_turns() -> None:
    rendering = rendered("qwen3", THINKING)
    assert answers(rendering) == ["<think>\nthree and three\n</think>\n\n6</s>\n"]
    assert (rendering.adapted, rendering.not_carried) == (True, ("thinking",))
    single = rendered("qwen3", Whole(THINKING.turns[2:]))
    assert answers(single) == ["<think>\nthree and three\n</think>\n\n6</s>\n"]
    assert (single.adapted, single.not_carried) == (False, ())


def test_the_plain_template_carries_thinking_in_every_turn() -> None:
    rendering = rendered("plain", THINKING)
    assert answers(rendering) == [
        "<think>\ntwo and two\n</think>\n4</s>\n",
        "<think>\nthree and three\n</think>\n6</s>\n",
    ]
    assert (rendering.adapted, rendering.not_carried) == (False, ())


def test_thinking_that_a_template_knows_nothing_of_is_told() -> None:
    rendering = rendered("chatml", THINKING)
    assert (answers(rendering), rendering.adapted, rendering.not_carried) == (["4</s>\n", "6</s>\n"], False, ("thinking",))


@pytest.mark.parametrize(
    ("name", "adapted"), [("chatml", False), ("plain", False), ("llama2", False), ("qwen3", False), ("gemma", True)]
)
def test_a_system_turn_reaches_every_template(name: str, adapted: bool) -> None:
    rendering = rendered(name, whole(SYSTEM, None))
    assert (rendering.adapted, rendering.not_carried) == (adapted, ())
    assert "Be brief." in rendering.text
    if adapted:
        assert "user\nBe brief.\n\n2 + 2?<end_of_turn>" in rendering.text


@pytest.mark.parametrize("name", TEMPLATES)
@given(talk=talks)
@settings(max_examples=60, deadline=None)
def test_no_row_is_lost_to_a_template_of_the_field(name: str, talk: list[tuple[str, str]]) -> None:
    talk = [*talk, ("user", "why"), ("assistant", "the law")]
    found = rendered(name, whole(said(*talk), None))
    assert found.spans
    assert "the law" in answers(found)[-1]
    assert not {"system", "tool"} & set(found.not_carried)
    begin = found.spans[-1][0]
    assert found.text[:begin] == render_prompt(ChatTemplate(CHAT[name]), whole(said(*talk[:-1]), None)) or found.adapted


def test_turns_that_do_not_alternate_are_merged_where_a_template_insists() -> None:
    talk = said(("assistant", "Hi."), ("user", "One"), ("user", "two?"), ("assistant", "Yes."), ("assistant", "Three!"))
    rendering = rendered("gemma", whole(talk, None))
    assert "user\nOne\n\ntwo?<end_of_turn>" in rendering.text
    assert answers(rendering) == ["Hi.<end_of_turn>\n", "Yes.\n\nThree!<end_of_turn>\n"]
    assert (rendering.adapted, rendering.not_carried) == (True, ())


@pytest.mark.parametrize(("name", "talk"), [("plain", CALLING), ("plain", THOUGHTFUL), ("qwen3", THOUGHTFUL)])
def test_tools_and_calls_go_through_a_template_that_knows_them(name: str, talk: Whole) -> None:
    rendering = rendered(name, talk)
    assert (rendering.adapted, rendering.not_carried) == (False, ())
    call, answer = answers(rendering)
    assert json.loads(call.split("<tool_call>\n")[1].split("\n</tool_call>")[0]) == {
        "name": "weather",
        "arguments": {"town": "Bär"},
    }
    assert "Yes, 4 mm." in answer
    assert "The weather of a town." in rendering.text


@pytest.mark.parametrize("name", ["chatml", "gemma", "llama2"])
def test_tools_and_calls_are_text_to_a_template_that_does_not(name: str) -> None:
    rendering = rendered(name, CALLING)
    assert (rendering.adapted, rendering.not_carried) == (True, ())
    call, answer = answers(rendering)
    end = {"chatml": "</s>", "gemma": "<end_of_turn>", "llama2": " </s>"}[name]
    assert json.loads(call.strip().removesuffix(end)) == {"name": "weather", "arguments": {"town": "Bär"}}
    assert "Yes, 4 mm." in answer
    assert json.JSONDecoder().raw_decode(rendering.text.split("Tools:\n")[1])[0] == TOOLS[0]


def test_a_call_that_the_template_writes_anew_in_the_history_is_not_trained_on() -> None:
    rendering = rendered("qwen3", CALLING)
    assert answers(rendering) == ["<think>\n\n</think>\n\nYes, 4 mm.</s>\n"]
    assert (rendering.adapted, rendering.not_carried) == (True, ())


def test_what_tools_said_is_missed_where_another_turn_says_it_too() -> None:
    skipping = "{% for m in messages %}{% if m.role != 'tool' %}{{ m.role + ':' + m.content + '\n' }}{% endif %}{% endfor %}"
    talk = said(("user", "Rain?"), ("assistant", "I ask."), ("tool", "4"), ("assistant", "Yes, 4 mm."))
    template = ChatTemplate(tokenizer(skipping + "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"))
    rendering = render(template, whole(talk, None))
    assert "user:4\n" in rendering.text
    assert (rendering.adapted, rendering.not_carried) == (True, ())


def test_what_no_fold_brings_back_is_told() -> None:
    deaf = "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.role + ':' + m.content + '\n' }}{% endif %}{% endfor %}"
    template = ChatTemplate(tokenizer(deaf + "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"))
    rendering = render(template, CALLING)
    assert rendering.not_carried == ("tools", "user", "tool")
    assert [json.loads(answers(rendering)[0])["name"], answers(rendering)[1]] == ["weather", "Yes, 4 mm.\n"]


@given(talk=talks, rung=st.sampled_from(LADDER))
@settings(max_examples=60, deadline=None)
def test_folding_loses_no_text(talk: list[tuple[str, str]], rung: frozenset[str]) -> None:
    folded = fold(whole(said(*talk), None), rung)
    text = "\0".join(turn["content"] for turn in folded.turns)
    assert all(content in text for _, content in talk if content.strip())
    assert fold(folded, rung) == folded
