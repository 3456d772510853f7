"""One rendering says what many say, and a template that looks about is found out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from composer.conversation import Whole
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
