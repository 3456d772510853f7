"""One rendering says what many say, and a template that looks about is found out."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings

from composer.conversation import Whole
from composer.errors import SourceError
from composer.template import ChatTemplate
from tests.composer.chats import CHAT, GEMMA, LLAMA2, QWEN3, STRIPPING, said, talks, tokenizer


@pytest.mark.parametrize("name", ["chatml", "plain"])
@given(talk=talks)
@settings(max_examples=60, deadline=None)
def test_one_rendering_says_what_many_say(name: str, talk: list[tuple[str, str]]) -> None:
    streamed, many = ChatTemplate(CHAT[name]), ChatTemplate(CHAT[name])
    assert streamed._opening
    many._opening = None
    assert streamed.answers(Whole(said(*talk))) == many.answers(Whole(said(*talk)))


@pytest.mark.parametrize(
    "template",
    [
        GEMMA, LLAMA2, QWEN3, STRIPPING,
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% if not loop.last %}{{ '|' }}{% endif %}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% endfor %}{{ messages | length }}",
        "{% set c = cycler('a', 'b') %}{% for m in messages %}{{ c.next() + m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% if add_generation_prompt %}!{% endif %}{% endfor %}",
        "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% generation %}x{% endgeneration %}{% endfor %}",
    ],
)  # fmt: skip
def test_a_template_that_looks_about_is_rendered_for_every_answer(template: str) -> None:
    assert ChatTemplate(tokenizer(template))._opening is None


REACHING = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('touch ran').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ messages | map(attribute='__class__') | list }}",
    "{{ ('{0.__class__.__init__.__globals__}').format(messages) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'content': 'other'}) }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as p %}{{ p }}",
    "{% for i in range(999999999) %}x{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
)


@pytest.mark.parametrize("template", REACHING)
@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "f"}}]])
def test_a_template_reaches_nothing_but_what_it_is_given(template: str, tools: list[dict[str, object]] | None) -> None:
    """It runs in the sandbox, in our own rendering and, where there are tools, in the tokenizer's."""
    talk = said(("user", "ask"), ("assistant", "answer"))
    whole = "{% for m in messages %}{{ m.content }}{% endfor %}" + template
    told = []
    with suppress(SourceError):
        told.append(ChatTemplate(tokenizer(whole)).text(Whole(talk, tools)))
    assert not any(word in text for text in told for word in ("class", "<", "root"))
    assert [turn["content"] for turn in talk] == ["ask", "answer"]
