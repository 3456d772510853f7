"""Rows that nobody would write: one answer by both ways of reading, by columns and row by row."""

from __future__ import annotations

import io
import json
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.composer.ingest.reading_back import Stats, told

BLANKS = [
    " ", "\t", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u1680", "\u2003", "\u2028",
    "\u2029", "\u202f", "\u3000", "\u200b", "\ufeff", "\x00", "\x07", "\x7f", "\x9f", "\ud83d", "\udf0a", "\ufffd", "é",
    "e\u0301", "🌊", "A", "a", "İ", "ß",
]  # fmt: skip
odd_text = st.lists(st.sampled_from([*BLANKS, "word", "Word"]), max_size=6).map("".join) | st.text(max_size=6)
plain_text = st.sampled_from(["one", "two", "three", "four words stand here", " spaced  out ", "Zwölf", "日本"])
texts = plain_text | odd_text
scalar = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | odd_text
odd = st.recursive(
    scalar, lambda v: st.lists(v, max_size=2) | st.dictionaries(st.sampled_from("abc"), v, max_size=2), max_leaves=4
)
values = st.one_of(texts, texts, texts, odd)
roles = (
    st.sampled_from(
        ["user", "assistant", "assistant", "system", "tool", "human", "gpt", "function_call", "observation", "User"]
    )
    | odd
)


def turn(who: str, what: str) -> st.SearchStrategy[Any]:
    more = {"tool_calls": odd, "thinking": odd, "reasoning_content": odd, "name": odd, "tool_call_id": odd, "weight": odd}
    return st.fixed_dictionaries({who: roles, what: values}, optional=more) | odd


def talk(who: str, what: str) -> st.SearchStrategy[Any]:
    plain = st.tuples(texts, texts).map(lambda pair: [{who: "user", what: pair[0]}, {who: "assistant", what: pair[1]}])
    return st.one_of(plain, plain, st.lists(turn(who, what), max_size=4), odd)


EXTRA = {"license": values, "id": odd, "meta": odd, "tools": odd, "system": values, "history": odd | st.just([["a", "b"]])}
shaped = st.one_of(
    st.fixed_dictionaries({"messages": talk("role", "content")}, optional=EXTRA),
    st.fixed_dictionaries({"conversations": talk("from", "value")}, optional=EXTRA),
    st.fixed_dictionaries({"instruction": values, "output": values}, optional={"input": values, **EXTRA}),
    st.fixed_dictionaries({"instruction": values, "response": values}, optional={"context": values, **EXTRA}),
    st.fixed_dictionaries(
        {"prompt": values | talk("role", "content"), "completion": values | talk("role", "content")}, optional=EXTRA
    ),
    st.fixed_dictionaries({"question": values, "answer": values}, optional={"context": values, **EXTRA}),
    st.fixed_dictionaries({"text": values}, optional=EXTRA),
)
FIELDS = [
    "messages", "conversations", "instruction", "input", "output", "prompt", "completion", "query", "response", "question",
    "answer", "context", "text", "system",
]  # fmt: skip
loose = st.dictionaries(st.sampled_from(FIELDS), values, max_size=4) | odd
uniform = st.one_of(
    st.lists(st.fixed_dictionaries({"instruction": texts, "output": texts}), max_size=8),
    st.lists(st.fixed_dictionaries({"instruction": texts, "input": texts | st.none(), "output": texts}), max_size=8),
    st.lists(st.fixed_dictionaries({"messages": st.lists(st.fixed_dictionaries({
        "role": st.sampled_from(["system", "user", "assistant"]), "content": texts}), max_size=4)}), max_size=8),
    st.lists(st.fixed_dictionaries({"conversations": st.lists(st.fixed_dictionaries({
        "from": st.sampled_from(["system", "human", "gpt"]), "value": texts}), max_size=4)}), max_size=8),
    st.lists(st.fixed_dictionaries({"prompt": texts, "completion": texts}), max_size=8),
    st.lists(st.fixed_dictionaries({"question": texts, "answer": texts}), max_size=8),
    st.lists(st.fixed_dictionaries({"text": texts}), max_size=8),
)  # fmt: skip
many = uniform | st.lists(shaped, max_size=8) | st.lists(shaped | loose, max_size=10)
copied = st.tuples(many, st.randoms(use_true_random=False)).map(
    lambda made: [*made[0], *made[1].sample(made[0], len(made[0]) // 2)]
)


def lines(rows: list[Any], *, ascii_only: bool, tight: bool) -> bytes:
    separators = (",", ":") if tight else None
    texts = (json.dumps(row, ensure_ascii=ascii_only, separators=separators) for row in rows)
    return b"".join(text.encode("utf-8", "surrogatepass") + b"\n" for text in texts)


def agree(name: str, content: bytes, **fields: Any) -> Stats:
    fast, slow = (told(name, content, columnar=columnar, **fields) for columnar in (True, False))
    assert fast[0] == slow[0]
    for one, other in zip(fast[1:], slow[1:], strict=True):
        assert one.to_dicts() == other.to_dicts()
        assert one.schema == other.schema
    return fast[0]


@settings(max_examples=120, deadline=None)
@given(rows=many | copied, ascii_only=st.booleans(), tight=st.booleans(), license=st.sampled_from(["from_row", "MIT"]))
@example(rows=[{"text": " \x1c"}, {"text": "a"}], ascii_only=True, tight=True, license="MIT")
@example(rows=[{"instruction": "\x85", "output": "a"}, {"text": "\u00a0"}], ascii_only=False, tight=False, license="MIT")
@example(rows=[{"text": "a"}, {"text": "a "}, {"text": "a\x00"}, {"text": "A"}], ascii_only=True, tight=True, license="MIT")
@example(rows=[{"text": "a", "messages": None}, {"messages": [], "text": "b"}], ascii_only=True, tight=True, license="MIT")
@example(
    rows=[{"instruction": "a", "output": 1}, {"instruction": 1, "output": "a"}], ascii_only=True, tight=True, license="MIT"
)
def test_the_fast_way_is_the_slow_way(rows: list[Any], ascii_only: bool, tight: bool, license: str) -> None:
    stats = agree("a.jsonl", lines(rows, ascii_only=ascii_only, tight=tight), license=license)
    assert stats["seen"] == len(rows)


@settings(max_examples=30, deadline=None)
@given(
    rows=many,
    adapter=st.sampled_from(["messages", "sharegpt", "alpaca", "prompt_completion", "text"]),
    limit=st.none() | st.integers(1, 4),
)
def test_the_fast_way_is_the_slow_way_with_a_named_shape(rows: list[Any], adapter: str, limit: int | None) -> None:
    agree("a.jsonl", lines(rows, ascii_only=True, tight=True), adapter=adapter, limit=limit)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"ask": values, "say": values}, optional={"output": values, "split": values}), max_size=8
    )
)
def test_the_fast_way_is_the_slow_way_with_columns_and_a_filter(rows: list[Any]) -> None:
    fields = {"columns": {"instruction": "ask", "output": "say"}, "where": {"split": "one"}}
    with_split = [{"split": "one", **row} for row in rows]
    agree("a.jsonl", lines(with_split, ascii_only=True, tight=False), **fields)


@settings(max_examples=25, deadline=None)
@given(rows=uniform)
def test_the_fast_way_is_the_slow_way_in_parquet(rows: list[Any]) -> None:
    clean = json.loads(json.dumps(rows, ensure_ascii=False).encode(errors="replace"))
    out = io.BytesIO()
    pl.DataFrame(clean, infer_schema_length=None).write_parquet(out)
    agree("a.parquet", out.getvalue())


# What two parsers of JSON are apt to read in two ways.
QUIRKS = [
    b'{"text": "first", "text": "last"}',
    b'{"text": null, "text": "last"}',
    b'{"text": "first", "text": null}',
    b'{"messages": [], "messages": null, "text": "a"}',
    b'{"te\\u0078t": "an escaped key"}',
    b'{"text": "slash \\/"}',
    b'{"text": "nan", "a": NaN}',
    b'{"text": "inf", "a": -Infinity}',
    b'{"text": "great", "a": 1e999}',
    b'{"text": "zero", "a": 01}',
    b'{"text": "plus", "a": +1}',
    b'{"text": "point", "a": .5}',
    b'{"text": "dot", "a": 1.}',
    b'{"text": "hex", "a": 0x1}',
    b'{"text": "huge", "a": ' + b"9" * 400 + b"}",
    b'{"text": "long", "a": ' + b"9" * 5_000 + b"}",
    b'{"text": "a"} {"text": "b"}',
    b'{"text": "a"}{"text": "b"}',
    b'{"text": "comma",}',
    b'{"text": "comment"} // c',
    b'{"text": /* c */ "a"}',
    b"{'text': 'a'}",
    b'{text: "a"}',
    b'{"text": "tab\t"}',
    b'{"text": "nul\x00"}',
    b'{"text": "a"}\x00',
    b'\xef\xbb\xbf{"text": "a mark"}',
    b'\x0c{"text": "a form feed"}',
    b'{"text": "a"}\x0b',
    b'\xc2\xa0{"text": "a hard blank"}',
    b'{"text":\xc2\xa0"a"}',
    b'{"text": "\\ud83d\\ude00 pair"}',
    b'{"text": "\\ud83d half"}',
    b'{"\\ud83d": 1, "text": "half a key"}',
    b'{"text": "\\ud83dx\\ude00"}',
    b'{"text": "a", "b": "\\ud83d"}',
    b'{"text": "bad \xff"}',
    b'{"text": "a", "b": "bad \xff"}',
    b'{"bad \xff": 1, "text": "a"}',
    b'{"text": "\xed\xa0\xbd"}',
    b'{"text": "\xf4\x90\x80\x80"}',
    b'{"text": "a", "b": ' + b"[" * 200 + b"]" * 200 + b"}",  # a thousand levels are too many for Python, and not for Arrow
    b'{"text": "a", "b": {"text": "inner"}}',
    b'{"text": ["a"]}',
    b'{"text": {"a": "b"}}',
    b'{"text": 1}',
    b'{"text": true}',
    b"{}",
    b"[]",
    b'{"instruction": "a", "output": "b", "history": [["c"]]}',
    b'{"instruction": "a", "output": "b", "history": [[null, "d"]]}',
    b'{"instruction": "a", "output": "b", "history": []}',
    b'{"instruction": "a", "output": "b", "history": {}}',
    b'{"instruction": "a", "output": "b", "system": "\\u00a0"}',
    b'{"instruction": "a", "output": "b", "system": 1}',
    b'{"instruction": "a", "output": "b", "tools": []}',
    b'{"instruction": "a", "output": "b", "tools": "[{}]"}',
    b'{"instruction": "a", "output": "b", "license": 3}',
    b'{"instruction": "a", "output": "b", "license": " "}',
    b'{"messages": [{"role": "user", "content": "a", "role": "system"}, {"role": "assistant", "content": "b"}]}',
    b'{"messages": [{"role": "user", "content": "a"}, null, {"role": "assistant", "content": "b"}]}',
    b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "thinking": ""}]}',
    b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}',
    b'{"messages": [[], {"role": "assistant", "content": "b"}]}',
    b'{"conversations": [{"from": "function_call", "value": "{}"}]}',
    b'{"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{\\"name\\": \\"f\\"}"}]}',
    b'{"prompt": "a", "response": "b", "completion": null}',
    b'{"prompt": "a", "query": "c", "completion": "b"}',
    b'{"question": "a", "answer": "b", "context": "c"}',
    b'{"question": "a", "answer": "b", "input": "c"}',
    b'{"instruction": "a", "output": "b", "response": "c"}',
    b'{"instruction": "a", "output": null, "response": "c"}',
    b'{"instruction": "a", "input": "\\n", "output": "b"}',
    b'{"instruction": "a", "input": "b", "context": "c", "output": "d"}',
]


@settings(max_examples=40, deadline=None)
@given(rows=many, quirks=st.lists(st.tuples(st.integers(0, 8), st.sampled_from(QUIRKS) | st.binary(max_size=12)), max_size=4))
@example(rows=[], quirks=[(i, quirk) for i, quirk in enumerate(QUIRKS)])
def test_the_fast_way_is_the_slow_way_between_odd_lines(rows: list[Any], quirks: list[tuple[int, bytes]]) -> None:
    pieces = lines(rows, ascii_only=True, tight=True).splitlines(keepends=True)
    for place, some in quirks:
        pieces.insert(min(place, len(pieces)), some + b"\n")
    agree("a.jsonl", b'{"text": "first"}\n' + b"".join(pieces), license="from_row")


@pytest.mark.parametrize("quirk", QUIRKS)
def test_a_quirk_among_plain_rows_is_read_alike(quirk: bytes) -> None:
    """Alone among many rows that the fast way takes, so that it is met there and not only row by row."""
    plain = [json.dumps({"instruction": f"ask {i}", "output": f"say {i}"}).encode() for i in range(6)]
    agree("a.jsonl", b"\n".join([*plain[:3], quirk, *plain[3:]]), license="from_row")
