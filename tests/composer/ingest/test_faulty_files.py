"""Files that change, refuse, loop or are none: each costs itself alone and is named."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer.errors import SourceError
from composer.ingest import read
from tests.composer.ingest.reading_back import documents, fresh, outcome, parts, source


def _growing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let somebody append to a file whenever it has been opened."""
    real = Path.open

    def opening(self: Path, *args: Any, **kwargs: Any) -> Any:
        handle = real(self, *args, **kwargs)
        if self == path:
            with real(path, "ab") as other:
                other.write(b'{"text": "late"}\n')
        return handle

    monkeypatch.setattr(Path, "open", opening)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = documents(tmp_path / name, ["one", "two", "three"])
    _growing(path, monkeypatch)
    with pytest.raises(SourceError, match="changed while it was read") as told:
        read(source(path), fresh(tmp_path / "out"))
    assert name in str(told.value)


def test_a_parquet_file_that_is_replaced_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": ["one", "two"]}).write_parquet(path)
    real = pq.ParquetFile

    def opening(*args: Any, **kwargs: Any) -> Any:
        opened = real(*args, **kwargs)
        aside = tmp_path / "aside"
        pl.DataFrame({"text": ["another", "content", "longer"]}).write_parquet(aside)
        aside.replace(path)
        return opened

    monkeypatch.setattr(pq, "ParquetFile", opening)
    with pytest.raises(SourceError, match="changed while it was read"):
        read(source(path), fresh(tmp_path / "out"))


def _refusing(name: str, cause: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every way of opening a file of that name fail."""
    import io

    real = io.open

    def opening(file: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(file, int) and Path(os.fspath(file)).name == name:
            raise cause
        return real(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", opening)
    monkeypatch.setattr("builtins.open", opening)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOENT])
def test_a_file_that_cannot_be_opened_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        documents(tmp_path / "in" / name, [f"{name} one", f"{name} two"])
    _refusing("b.jsonl", OSError(number, os.strerror(number)), monkeypatch)
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    texts = {0: "a.jsonl one", 1: "a.jsonl two", 3: "c.jsonl one", 4: "c.jsonl two"}
    assert fates == {row: ("kept", "", text) for row, text in texts.items()} | {2: ("dropped", "unreadable_file", None)}
    lost = parts(tmp_path / "out", "dropped")[0]
    assert "b.jsonl" in lost["text"]
    assert os.strerror(number) in lost["text"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    documents(tmp_path / "in/a.jsonl", ["one"])
    documents(tmp_path / "in/deep/b.jsonl", ["two"])
    (tmp_path / "in/deep/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    assert sorted(fate[2] for fate in fates.values() if fate[2]) == ["one", "two"]


@pytest.mark.parametrize("target", ["nowhere.jsonl", "itself.jsonl"])
def test_a_link_to_nothing_is_a_file_that_cannot_be_read(tmp_path: Path, target: str) -> None:
    documents(tmp_path / "in/a.jsonl", ["one"])
    (tmp_path / "in/itself.jsonl").symlink_to(tmp_path / "in" / target)
    documents(tmp_path / "in/z.jsonl", ["two"])
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    assert fates == {0: ("kept", "", "one"), 1: ("dropped", "unreadable_file", None), 2: ("kept", "", "two")}
    assert "itself.jsonl" in parts(tmp_path / "out", "dropped")[0]["text"]


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    documents(tmp_path / "elsewhere.jsonl", ["linked"])
    fresh(tmp_path / "in")
    (tmp_path / "in/a.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    assert outcome(source(tmp_path / "in"), tmp_path / "out")[0] == {0: ("kept", "", "linked")}


@pytest.mark.parametrize(
    ("path", "what"),
    [("empty", "folder without supported files"), ("loop", "."), ("none.jsonl", "no such file"),
     ("notes.txt", "unknown file ending"), ("a" * 300 + ".jsonl", "."), ("nul\0.jsonl", ".")],
)  # fmt: skip
def test_a_path_with_nothing_to_read_is_one_line(tmp_path: Path, path: str, what: str) -> None:
    fresh(tmp_path / "empty")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(SourceError, match=rf"^sources\.s\.path: .*{what}") as told:
        read(source(tmp_path / path), fresh(tmp_path / "out"))
    assert "\n" not in str(told.value)


def test_a_folder_named_as_a_file_is_a_folder(tmp_path: Path) -> None:
    documents(tmp_path / "in/x.jsonl/inner.jsonl", ["inner"])
    documents(tmp_path / "in/y.jsonl", ["outer"])
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    assert sorted(str(fate[2]) for fate in fates.values()) == ["inner", "outer"]
    assert outcome(source(tmp_path / "in/x.jsonl"), tmp_path / "alone")[0] == {0: ("kept", "", "inner")}


@pytest.mark.timeout(20)
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Who opens a pipe waits for a writer; a folder goes on without it, and a source that is one is refused."""
    documents(tmp_path / "in/a.jsonl", ["one"])
    os.mkfifo(tmp_path / "in/b.jsonl")
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    assert fates == {0: ("kept", "", "one"), 1: ("dropped", "unreadable_file", None)}
    with pytest.raises(SourceError, match=r"^sources\.s\.path: "):
        read(source(tmp_path / "in/b.jsonl"), fresh(tmp_path / "alone"))


def test_names_of_any_bytes_are_read(tmp_path: Path) -> None:
    for name in ("sp ace.jsonl", "quo'te\".jsonl", "[glob]*.jsonl", "été 🌊.jsonl", "line\nbreak.jsonl"):
        documents(tmp_path / "in" / name, [name])
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    assert {fate[0] for fate in fates.values()} == {"kept"}
    assert len(fates) == 5
    assert outcome(source(tmp_path / "in/[glob]*.jsonl"), tmp_path / "one")[0] == {0: ("kept", "", "[glob]*.jsonl")}


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    documents(tmp_path / "in/a.jsonl", ["one"])
    documents(tmp_path / "in/.b.jsonl", ["hidden"])
    documents(tmp_path / "in/.cache/c.jsonl", ["hidden"])
    assert outcome(source(tmp_path / "in"), tmp_path / "out")[0] == {0: ("kept", "", "one")}
