"""Files of every ending give the same rows, and damage costs the row or says which file."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from composer.errors import SourceError
from composer.ingest.files import READERS, Broken

ROWS = [{"text": "one"}, {"text": "zwölf \u2028 \x85 in one line"}, {"text": "three"}]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(rows: list[dict[str, str]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def read(path: Path) -> list[object]:
    return list(READERS[path.suffix](path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", lines(ROWS)),
        ("a.ndjson", "\n" + lines(ROWS).replace("\n", "\r\n\r\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + lines(ROWS).encode()),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("a.json", b"\xef\xbb\xbf \n" + json.dumps(ROWS).encode()),
        ("a.json", lines(ROWS)),
    ],
)
def test_every_writing_gives_the_same_rows(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(write(tmp_path / name, content)) == ROWS


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    pl.DataFrame(ROWS).write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ROWS


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    assert read(write(tmp_path / name, " \n")) == []


def test_a_broken_line_stands_in_its_place(tmp_path: Path) -> None:
    content = b'{"text": "one"}\n{"text": \n{"text": "caf\xe9"}\n\xff\xfe{\n' + b"[" * 5_000 + b"\n7\n"
    first, broken, latin, utf16, deep, number = read(write(tmp_path / "a.jsonl", content))
    assert first == {"text": "one"}
    assert broken == Broken("invalid_json", '{"text":')
    assert latin == {"text": "caf\udce9"}, "the wrong byte is found where it is used"
    assert isinstance(utf16, Broken)
    assert utf16.reason == "invalid_encoding"
    assert isinstance(deep, Broken)
    assert deep.reason == "invalid_json"
    assert number == 7


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.json", '{\n "data": [\n  {"text": "t"}\n ]\n}', "not a JSON array; expected an array of objects"),
        ("a.json", "42", "not a JSON array"),
        ("a.json", '[{"text": "one"}, {"text": ', "not a JSON array: Expecting value"),
        ("a.json", "[" * 5_000, "not a JSON array"),
        ("a.parquet", "PAR1 and then nothing", "not readable as Parquet"),
        ("a.parquet", "", "not readable as Parquet"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str, what: str) -> None:
    with pytest.raises(SourceError, match=what) as told:
        read(write(tmp_path / name, content))
    assert name in str(told.value)


def test_parquet_damaged_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": [f"{i * i} and {i}" for i in range(5_000)]}).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[200:2_000] = b"\xaa" * 1_800
    with pytest.raises(SourceError, match="not readable as Parquet"):
        read(write(path, bytes(content)))


def test_a_parquet_string_that_is_not_utf8_breaks_its_row_alone(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wrong = pa.Array.from_buffers(pa.binary(), 3, pa.array([b"a", b"\xe9", b"c"]).buffers()).view(pa.string())
    pq.write_table(pa.table({"text": wrong}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [{"text": "a"}, Broken("invalid_encoding"), {"text": "c"}]
