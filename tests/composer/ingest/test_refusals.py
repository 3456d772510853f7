"""Ingest answers bad input with one line, and a row or file that does not fit with a count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from composer.errors import SourceError
from composer.ingest import reading
from tests.composer.ingest.five import FIVE, jsonl, run


def test_a_hub_out_of_reach_is_one_line(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match=r"^sources\.s\.path: cannot load the Hub dataset: .*org/name.*; got org/name; "):
        run(tokenizer, "org/name", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.jsonl", b"", "no rows; expected a row of a known shape; got an empty source"),
        ("a.jsonl", b'{"q": 1}\nnot json\n', "no rows; .*got 1 invalid_json, 1 unknown_shape; row 0 reads"),
        ("a.json", b'{\n"data": []}', "no rows; .*got an empty source"),
        ("a.parquet", b"PAR1", "no rows; .*got 1 unreadable_file; row 0 reads .*not readable as Parquet"),
        ("a.jsonl", '{"text": "t"}\n'.encode("utf-16-le"), "no rows; .*2 invalid_json"),
    ],
)
def test_bad_files_are_one_line(tokenizer: Any, tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=r"^sources\.s\.path: " + what) as told:
        run(tokenizer, tmp_path / name, tmp_path / "out")
    assert "\n" not in str(told.value)


def test_a_missing_file_is_one_line(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^sources\.s\.path: no such file"):
        run(tokenizer, tmp_path / "none.jsonl", tmp_path / "out")


def test_a_file_that_may_not_be_read_is_one_broken_row(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setitem(reading.READERS, ".csv", refuse)
    jsonl(tmp_path / "in/a.csv", FIVE)
    with pytest.raises(SourceError, match=r"no rows; .*got 1 unreadable_file; row 0 reads 'a\.csv: Permission denied'"):
        run(tokenizer, tmp_path / "in/a.csv", tmp_path / "out")
    jsonl(tmp_path / "in/b.jsonl", FIVE)
    stats = run(tokenizer, tmp_path / "in", tmp_path / "both")
    assert (stats["kept"], stats["dropped"]) == (5, {"unreadable_file": 1})


def test_a_named_shape_that_does_not_fit(tokenizer: Any, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", FIVE)
    assert run(tokenizer, path, tmp_path / "one", adapter="alpaca")["dropped"] == {"other_shape": 4}
    with pytest.raises(SourceError, match="no rows; expected a row of shape alpaca; got 1 other_shape"):
        run(tokenizer, jsonl(tmp_path / "b.jsonl", FIVE[:1]), tmp_path / "two", adapter="alpaca")
