"""Bytes that nobody meant and rows that nobody would write: no traceback, no lost row, one answer by both ways of reading."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from composer.errors import SourceError
from composer.ingest import reading
from composer.types import Source

ENDINGS = (
    ".jsonl",
    ".ndjson",
    ".json",
    ".csv",
    ".tsv",
    ".parquet",
    ".jsonl.gz",
    ".json.gz",
    ".csv.gz",
    ".jsonl.zst",
    ".parquet.gz",
)
MARKS = (
    b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\x00\x00", b"PAR1", b"\x28\xb5\x2f\xfd", b"\x1f\x8b",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", b"[", b'[{"text": "a"},', b'{"data": [', b'{"text": "a"}\n', b"text\na\n",
    b'instruction,output\na,"',
)  # fmt: skip
Stats = dict[str, Any]


@contextmanager
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as made:
        yield Path(made)


def frames(where: Path, word: str) -> pl.DataFrame:
    """Return all parts of a kind as one table, whichever way the rows were cut into parts."""
    found = sorted(where.glob(f"{word}-*.parquet"))
    return pl.concat([pl.read_parquet(path) for path in found]) if found else pl.DataFrame()


def told(name: str, content: bytes, *, columnar: bool = True, **fields: Any) -> tuple[Stats, pl.DataFrame, pl.DataFrame]:
    """Read one file and return what was counted, kept and dropped, having checked the law of the counts."""
    with folder() as here:
        (here / name).write_bytes(content)
        (here / "out").mkdir()
        source = Source(name="s", path=str(here / name), domain="d", **fields)
        stats = reading.read(source, here / "out", columnar=columnar)
        rows, dropped = frames(here / "out", "rows"), frames(here / "out", "dropped")
    assert stats["seen"] == stats["kept"] + stats["repaired"] + sum(stats["dropped"].values())
    assert (stats["samples"], sum(stats["dropped"].values())) == (len(rows), len(dropped))
    numbers = sorted([*(rows["row"] if len(rows) else []), *(dropped["row"] if len(dropped) else [])])
    assert len(set(numbers)) == stats["seen"]
    assert numbers == list(range(stats["seen"])) or "where" in fields  # a filtered row has a number and is not seen
    return stats, rows, dropped


def said(rows: pl.DataFrame) -> set[str]:
    """Return the messages of the kept rows, each as one text."""
    return {json.dumps(messages) for messages in rows["messages"].to_list()} if len(rows) else set()


# Bytes --------------------------------------------------------------------------------------------------------------------

encodings = st.sampled_from(
    ["auto", "auto", "utf-8", "cp1252", "shift_jis", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "gb18030"]
)


@settings(max_examples=150, deadline=None)
@given(ending=st.sampled_from(ENDINGS), mark=st.sampled_from(MARKS), content=st.binary(max_size=200), encoding=encodings)
@example(ending=".json", mark=b"[", content=b"[" * 200, encoding="auto")
@example(ending=".csv", mark=b"", content=b'"' * 199, encoding="auto")
@example(ending=".jsonl", mark=b"\xff\xfe", content=b"\x00\xd8\n\x00", encoding="auto")
def test_any_bytes_in_any_reader(ending: str, mark: bytes, content: bytes, encoding: str) -> None:
    with suppressed():
        told(f"a{ending}", mark + content, encoding=encoding)


SYNTAX = [
    '"',
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    "\r",
    " ",
    '"text"',
    '"a"',
    "null",
    "1",
    "\\u00",
    "\\ud83d",
    "\x00",
    "é",
]
json_bits = st.lists(st.sampled_from(SYNTAX), max_size=40).map("".join)


@settings(max_examples=80, deadline=None)
@given(ending=st.sampled_from((".jsonl", ".json", ".csv", ".tsv")), content=json_bits)
def test_any_piece_of_syntax_in_any_reader(ending: str, content: str) -> None:
    with suppressed():
        told(f"a{ending}", content.encode())


@contextmanager
def suppressed() -> Iterator[None]:
    """Let the one error of a source pass, as long as it is one line that says where."""
    try:
        yield
    except SourceError as error:
        line = str(error)
    else:
        return
    assert line.startswith("sources.s.")
    assert "\n" not in line


# Good files with wrong places ---------------------------------------------------------------------------------------------

WORDS = ["river", "court", "leaf", "stone", "cloud", "fever", "dose", "string"]
GOOD = [
    {
        "prompt": f"{WORDS[i]} {WORDS[-1 - i]} {i * 7919}?",
        "completion": " ".join(WORDS[(i * k + k * k) % 8] for k in range(1, 12)),
    }
    for i in range(8)
]
edit = st.tuples(st.sampled_from(["flip", "cut", "insert"]), st.floats(0, 0.999), st.binary(min_size=1, max_size=4))
edits = st.lists(edit, min_size=1, max_size=4)
Edits = list[tuple[str, float, bytes]]


def edited(content: bytes, changes: Edits) -> bytes:
    """Return the bytes with places flipped, cut out or grown."""
    for kind, place, some in changes:
        at = int(place * len(content))
        if kind == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ (some[0] or 1)]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at] + content[at + len(some) :]
        else:
            content = content[:at] + some + content[at:]
    return content


def survivors(name: str, pieces: list[bytes], which: int, changes: Edits) -> tuple[list[str], set[str]]:
    """Return the messages that were in the file, and those found in it with one of its pieces edited."""
    before = told(name, b"".join(pieces))[1]
    assert len(before) == len(GOOD)
    broken = [*pieces]
    broken[which] = edited(broken[which], changes)
    return [json.dumps(messages) for messages in before["messages"].to_list()], said(told(name, b"".join(broken))[1])


def harmless(before: bytes, after: bytes, syntax: bytes) -> bool:
    """Return whether an edit left the format's own characters as they were."""
    return [byte for byte in before if byte in syntax] == [byte for byte in after if byte in syntax]


@settings(max_examples=40, deadline=None)
@given(which=st.integers(1, len(GOOD) - 1), changes=edits)
def test_a_broken_line_costs_itself_alone(which: int, changes: Edits) -> None:
    lines = [json.dumps(row).encode() for row in GOOD]
    broken = [*lines]
    broken[which] = edited(lines[which], changes)
    before = [json.dumps(messages) for messages in told("a.jsonl", b"\n".join(lines))[1]["messages"].to_list()]
    after = said(told("a.jsonl", b"\n".join(broken))[1])
    assert {text for i, text in enumerate(before) if i != which} <= after


@settings(max_examples=40, deadline=None)
@given(which=st.integers(1, len(GOOD)), changes=edits)
def test_a_broken_element_of_an_array_costs_itself_alone(which: int, changes: Edits) -> None:
    pieces = [b"[", *(json.dumps(row).encode() + b",\n" for row in GOOD[:-1]), json.dumps(GOOD[-1]).encode(), b"]"]
    before, after = survivors("a.json", pieces, which, changes)
    lost = {text for i, text in enumerate(before) if i + 1 != which} - after
    if not harmless(pieces[which], edited(pieces[which], changes), b'"\\[]{},'):  # what follows may be torn, what precedes not
        lost &= set(before[: which - 1])
    assert not lost


@settings(max_examples=40, deadline=None)
@given(which=st.integers(1, len(GOOD)), changes=edits)
def test_a_broken_row_of_a_table_costs_itself_alone(which: int, changes: Edits) -> None:
    pieces = [b"prompt,completion\n", *(",".join(row.values()).encode() + b"\n" for row in GOOD)]
    before, after = survivors("a.csv", pieces, which, changes)
    lost = {text for i, text in enumerate(before) if i + 1 != which} - after
    if not harmless(pieces[which], edited(pieces[which], changes), b'"\r\n'):
        lost &= set(before[: which - 1])
    assert not lost


def _zst(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def _parquet(_: bytes) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(GOOD).write_parquet(out, row_group_size=3)
    return out.getvalue()


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", _zst), ("a.parquet", _parquet)])
@settings(max_examples=25, deadline=None)
@given(changes=edits)
def test_damage_in_a_packed_file_is_counted(name: str, pack: Callable[[bytes], bytes], changes: Edits) -> None:
    packed = pack(b"".join(json.dumps(row).encode() + b"\n" for row in GOOD))
    whole = told(name, packed)
    assert whole[0]["kept"] == len(GOOD)
    with suppressed():
        stats, rows, _ = told(name, edited(packed, changes))
        assert stats["seen"], "damage is silent"
        assert stats["dropped"] or len(rows) >= 1


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0, 1))
@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", _zst)])
def test_a_cut_stream_gives_a_beginning_and_says_so(name: str, pack: Callable[[bytes], bytes], share: float) -> None:
    lines = [json.dumps(row).encode() + b"\n" for row in GOOD]
    packed = b"".join(pack(b"".join(lines[i : i + 2])) for i in range(0, len(lines), 2))
    before = [json.dumps(messages) for messages in told(name, packed)[1]["messages"].to_list()]
    cut = int(share * len(packed))
    stats, rows, _ = told(name, packed[:cut])
    texts = [json.dumps(messages) for messages in rows["messages"].to_list()] if len(rows) else []
    assert texts == before[: len(texts)], "what is left is a beginning"
    ends = [len(b"".join(pack(b"".join(lines[i : i + 2])) for i in range(0, n, 2))) for n in range(0, len(lines) + 1, 2)]
    assert len(texts) >= 2 * sum(cut >= end for end in ends[1:]), "a row of a whole member is lost"
    assert sum(stats["dropped"].values()) == (0 if cut in ends else 1)


# One answer by both ways --------------------------------------------------------------------------------------------------

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
