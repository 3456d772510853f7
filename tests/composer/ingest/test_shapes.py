"""Each shape reads the same conversation from another writing; what it refuses has one word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import SourceError
from composer.ingest.shapes import FIELDS, SHAPES, Row, normalise
from composer.ingest.turns import CONTROL, SPEAKERS

said = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=map(chr, range(9))), min_size=1, max_size=40).filter(
    lambda text: CONTROL.sub("", text).strip()
)
pairs = st.lists(st.tuples(said, said), min_size=1, max_size=4)
FROM = {"system": "system", "user": "human", "assistant": "gpt"}


def turns(system: str | None, talk: list[tuple[str, str]]) -> list[dict[str, str]]:
    start = [] if system is None else [{"role": "system", "content": system}]
    return start + [
        {"role": role, "content": text} for pair in talk for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def squeezed(text: str) -> str:
    return " ".join(CONTROL.sub("", text).split())


def cleaned(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"role": message["role"], "content": CONTROL.sub("", message["content"])} for message in messages]


def written(system: str | None, talk: list[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """The same conversation in the four shapes that can hold it."""
    messages = turns(system, talk)
    return {
        "messages": {"messages": messages},
        "sharegpt": {"conversations": [{"from": FROM[m["role"]], "value": m["content"]} for m in messages]},
        "alpaca": {
            "instruction": talk[-1][0],
            "input": "",
            "output": talk[-1][1],
            "system": system,
            "history": [list(pair) for pair in talk[:-1]],
        },
        "prompt_completion": {"prompt": messages[:-1], "completion": messages[-1:]},
    }


@settings(max_examples=60, deadline=None)
@given(system=st.none() | said, talk=pairs)
def test_a_conversation_comes_back_from_every_shape(system: str | None, talk: list[tuple[str, str]]) -> None:
    read = {word: normalise(row) for word, row in written(system, talk).items()}
    assert [word for word, _ in read.values()] == list(read)
    assert all(list(row.messages) == cleaned(turns(system, talk)) for _, row in read.values())
    assert len({row.sample_id for _, row in read.values()}) == 1
    assert read["messages"][1].instruction == squeezed(talk[0][0])
    assert read["alpaca"][1].instruction == squeezed(talk[-1][0])


@settings(max_examples=40, deadline=None)
@given(talk=pairs, tail=st.lists(said, max_size=3))
def test_what_follows_the_last_answer_is_cut(talk: list[tuple[str, str]], tail: list[str]) -> None:
    row = {"messages": turns(None, talk) + [{"role": "user", "content": text} for text in tail]}
    read = normalise(row)[1]
    assert list(read.messages) == cleaned(turns(None, talk))
    assert ("trailing_turns" in read.repairs) == bool(tail)


@settings(max_examples=40, deadline=None)
@given(text=said)
def test_a_document_is_a_lone_answer_and_is_read_back(text: str) -> None:
    word, row = normalise({"text": text})
    repairs = ("control_characters",) if CONTROL.search(text) else ()
    assert (word, row) == ("text", Row(({"role": "assistant", "content": CONTROL.sub("", text)},), repairs=repairs))
    assert normalise({"messages": list(row.messages)})[1].messages == row.messages


def test_every_shape_names_its_fields() -> None:
    assert {field for shape in SHAPES.values() for names in shape.fields for field in names} == FIELDS
    assert set(SPEAKERS.values()) == {"system", "user", "assistant", "tool"}


@pytest.mark.parametrize(
    ("row", "contents"),
    [
        ({"instruction": "Sum.", "input": "1 2", "output": "3"}, ["Sum.\n\n1 2", "3"]),
        ({"instruction": "Sum.", "input": None, "output": "3"}, ["Sum.", "3"]),
        ({"instruction": "Sum.", "input": " ", "output": "3 "}, ["Sum.", "3 "]),
        ({"instruction": "", "input": "1 + 2?", "output": "3"}, ["1 + 2?", "3"]),
        ({"prompt": " p ", "completion": "\nc"}, [" p ", "\nc"]),
        ({"prompt": [{"role": "user", "content": "p"}], "completion": "c"}, ["p", "c"]),
        ({"messages": None, "conversations": None, "text": "t", "instruction": None, "output": None}, ["t"]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                       {"role": "assistant", "content": "c"}]}, ["ab", "c"]),
        ({"conversations": [{"from": "gpt", "value": "g"}, {"from": "human", "value": "h"}, {"from": "human", "value": "i"},
                            {"from": "function_call", "value": "f"}, {"from": "observation", "value": "o"},
                            {"from": "gpt", "value": "g"}, {"from": "gpt", "value": " "}]}, ["g", "h", "i", "f", "o", "g"]),
        ({"conversations": [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}], "system": "s"}, ["s", "h", "g"]),
    ],
)  # fmt: skip
def test_contents_are_kept_to_the_byte(row: dict[str, Any], contents: list[str]) -> None:
    assert [message["content"] for message in normalise(row)[1].messages] == contents


def test_alpaca_wins_over_the_rendered_text_beside_it() -> None:
    row = {"instruction": "Sum.", "input": "1 2", "output": "3", "text": "### Instruction: Sum. ### Response: 3"}
    word, read = normalise(row)
    assert (word, read.instruction) == ("alpaca", "Sum.")
    assert normalise(row, adapter="text")[0] == "text"


def test_instructions_that_differ_in_white_space_are_one() -> None:
    one, two = (normalise({"prompt": text, "completion": "c"})[1] for text in ("Say  it\n", "Say it"))
    assert one.instruction_id == two.instruction_id
    assert one.sample_id != two.sample_id
    assert one.sample_id == "07d9b66f05745120", "ids are part of every key downstream: they must never change"


USER, EMPTY = {"role": "user", "content": "u"}, {"role": "assistant", "content": " \n"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "unknown_shape"),
        ({"question": "q"}, "unknown_shape"),
        ({"instruction": "i"}, "unknown_shape"),
        ({"messages": None}, "unknown_shape"),
        ({"messages": []}, "no_answer"),
        ({"messages": [USER]}, "no_answer"),
        ({"messages": [USER, EMPTY]}, "empty_answer"),
        ({"messages": [EMPTY]}, "empty_answer"),
        ({"messages": "u"}, "wrong_type"),
        ({"messages": [USER, "a"]}, "wrong_type"),
        ({"messages": [{"role": "critic", "content": "c"}]}, "unknown_role"),
        ({"messages": [{"content": "c"}]}, "unknown_role"),
        ({"messages": [{"role": ["user"], "content": "c"}]}, "unknown_role"),
        ({"messages": [{"role": "user", "content": 5}]}, "unsupported_content"),
        ({"messages": [{"role": "user", "content": None}]}, "unsupported_content"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]}, "unsupported_content"),
        ({"messages": [USER, {"role": "assistant", "content": "", "tool_calls": "none"}]}, "wrong_type"),
        ({"messages": [USER, {"role": "assistant", "content": "a"}], "tools": "not JSON"}, "wrong_type"),
        ({"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "a"}]}, "empty_prompt"),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "assistant", "content": "a"}]}, "empty_prompt"),
        ({"conversations": [{"from": "human", "value": None}]}, "unsupported_content"),
        ({"conversations": [{"from": "narrator", "value": "x"}]}, "unknown_role"),
        ({"conversations": {"from": "human"}}, "wrong_type"),
        ({"instruction": "i", "output": None}, "empty_answer"),
        ({"instruction": " ", "output": "o"}, "empty_prompt"),
        ({"instruction": 7, "output": "o"}, "wrong_type"),
        ({"instruction": "i", "output": "o", "history": [["only one"]]}, "wrong_type"),
        ({"instruction": "i", "output": "o", "history": 5}, "wrong_type"),
        ({"prompt": "", "completion": "c"}, "empty_prompt"),
        ({"prompt": "p", "completion": ""}, "empty_answer"),
        ({"prompt": {"role": "user"}, "completion": "c"}, "wrong_type"),
        ({"text": "  "}, "empty_answer"),
        ({"text": ["t"]}, "wrong_type"),
        ({"text": "caf\udce9"}, "invalid_encoding"),
    ],
)
def test_a_refused_row_has_one_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(SourceError, match=f"^{reason}$"):
        normalise(row)


def test_a_named_shape_is_required() -> None:
    with pytest.raises(SourceError, match=r"^other_shape$"):
        normalise({"text": "t"}, adapter="alpaca")


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "from", "value"]), inner),
    max_leaves=6,
)
KEYS = sorted(FIELDS | {"input", "history", "system"})


@settings(max_examples=150, deadline=None)
@given(row=st.dictionaries(st.sampled_from(KEYS), json, max_size=4))
def test_no_json_object_raises_anything_but_a_reason(row: dict[str, Any]) -> None:
    reasons = []
    try:
        normalise(row)
    except SourceError as error:
        reasons.append(error.what)
    assert all(reason.isidentifier() for reason in reasons)
