"""Bytes that nobody meant, and good files with wrong places: no traceback, and no row lost beside a broken one."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from composer.errors import SourceError
from tests.composer.ingest.reading_back import told

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
    """Return whether an edit left the format's own characters as they were, and at the end where one stood there."""
    ends = before[-1] not in syntax or before[-1:] == after[-1:]
    return ends and [byte for byte in before if byte in syntax] == [byte for byte in after if byte in syntax]


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
