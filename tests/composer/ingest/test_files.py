"""Files of every ending give the same rows, and damage costs the row or says which file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from composer.ingest.files import READERS, Broken

ROWS = [{"text": "one"}, {"text": "zwölf \u2028 \x85 in one line"}, {"text": "three"}]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(rows: list[dict[str, str]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def read(path: Path) -> list[object]:
    return [row for block in READERS[path.suffix](path, encoding="auto") for row in block.values(range(block.size))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", lines(ROWS)),
        ("a.ndjson", "\n" + lines(ROWS).replace("\n", "\r\n\r\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + lines(ROWS).encode()),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("a.json", b"\xef\xbb\xbf \n" + json.dumps(ROWS).encode()),
        ("a.json", lines(ROWS)),
        ("a.json", json.dumps({"version": 2, "data": ROWS}, indent=1)),
        ("a.jsonl", lines(ROWS).encode("utf-16")),
        ("a.jsonl", gzip.compress(lines(ROWS).encode(), mtime=0)),
        ("a.csv", "text\n" + "\n\n".join(row["text"] for row in ROWS)),
        ("a.csv", "text;n\r\n" + "".join(f'"{row["text"]}";\r\n' for row in ROWS)),
    ],
)
def test_every_writing_gives_the_same_rows(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert [{"text": row["text"]} for row in read(write(tmp_path / name, content)) if isinstance(row, dict)] == ROWS


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
    ("name", "content", "rows"),
    [
        ("a.json", "42", [42]),
        ("a.json", '[{"text": "one"}, {"text": ', [{"text": "one"}, "invalid_json"]),
        ("a.json", '[{"text": "one"}, {"text": , {"text": "two"}]', [{"text": "one"}, "invalid_json", {"text": "two"}]),
        ("a.json", '[{"text": "one"}', [{"text": "one"}, "invalid_json"]),
        ("a.json", '[{"text": "one"}] tail', [{"text": "one"}, "invalid_json"]),
        ("a.json", "[" * 5_000, ["invalid_json"]),
        (
            "a.csv",
            'text,n\n"one,1\ntwo,2\n"three\nlines",3\n',
            ["invalid_csv", {"text": "two", "n": "2"}, {"text": "three\nlines", "n": "3"}],
        ),
        ("a.csv", "text,n\none\ntwo,2\n", ["wrong_fields", {"text": "two", "n": "2"}]),
        ("a.csv", "text,text\none,two\n", ["unreadable_file"]),
        ("a.parquet", "PAR1 and then nothing", ["unreadable_file"]),
        ("a.parquet", "", ["unreadable_file"]),
    ],
)
def test_damage_costs_the_row_that_it_hits(tmp_path: Path, name: str, content: str, rows: list[object]) -> None:
    found = read(write(tmp_path / name, content))
    assert [row.reason if isinstance(row, Broken) else row for row in found] == rows


@pytest.mark.parametrize("pack", ["gz", "zst"])
def test_a_cut_stream_gives_what_it_has(tmp_path: Path, pack: str) -> None:
    import pyarrow as pa

    content = lines([{"text": f"{i * i} and {i}"} for i in range(60_000)]).encode()
    packed = gzip.compress(content, mtime=0) if pack == "gz" else pa.compress(content, codec="zstd", asbytes=True)
    *good, last = read(write(tmp_path / "a.jsonl", packed[: len(packed) // 2]))
    assert len(good) > 10_000
    assert good == [{"text": f"{i * i} and {i}"} for i in range(len(good))]
    assert isinstance(last, Broken)
    assert last.reason == "truncated_file"


def test_parquet_damaged_in_the_middle_is_one_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": [f"{i * i} and {i}" for i in range(5_000)]}).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[200:2_000] = b"\xaa" * 1_800
    last = read(write(path, bytes(content)))[-1]
    assert isinstance(last, Broken)
    assert last.reason == "unreadable_file"
    assert "a.parquet: row group 0 of 5000 rows is not readable as Parquet" in last.text


def test_a_parquet_string_that_is_not_utf8_breaks_its_row_alone(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wrong = pa.Array.from_buffers(pa.binary(), 3, pa.array([b"a", b"\xe9", b"c"]).buffers()).view(pa.string())
    pq.write_table(pa.table({"text": wrong}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [{"text": "a"}, Broken("invalid_encoding", '{"columns": ["text"]}'), {"text": "c"}]
