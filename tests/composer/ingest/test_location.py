"""A source lies in files or on the Hub, and its identity is its content."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from composer.errors import SourceError
from composer.fingerprint import Fingerprints
from composer.ingest import Dataset, Files, fingerprint, locate
from composer.types import Source


def source(path: object, **fields: Any) -> Source:
    return Source(name="s", path=str(path), domain="d", **fields)


def test_a_folder_is_its_supported_files_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/c.parquet", "a/notes.txt", ".hidden/x.jsonl", ".x.jsonl", "A.JSON"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    expected = tuple(tmp_path / name for name in ("A.JSON", "a/c.parquet", "b.jsonl"))
    assert locate(source(tmp_path)) == Files(tmp_path, expected)


def test_a_path_that_exists_is_local_whatever_it_looks_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate(source("org/name")) == Dataset("org/name")
    (tmp_path / "org/name").mkdir(parents=True)
    (tmp_path / "org/name/rows.jsonl").touch()
    assert locate(source("org/name")) == Files(Path("org/name"), (Path("org/name/rows.jsonl"),))


@pytest.mark.parametrize(
    "path", ["nothing.jsonl", "org/rows.jsonl", "a/b/c", "/no/such", "rows", "org/rows.parquet", "x" * 5_000, "a\0b"]
)
def test_a_missing_file_is_named(path: str) -> None:
    with pytest.raises(SourceError, match=r"^sources\.s\.path: no such file; got "):
        locate(source(path))


def test_an_unknown_ending_lists_the_known(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").touch()
    with pytest.raises(SourceError, match=r"unknown file ending; expected \.jsonl, \.ndjson, \.json, \.parquet"):
        locate(source(tmp_path / "rows.xlsx"))


def test_a_glob_is_the_files_that_it_matches(tmp_path: Path) -> None:
    for name in ("b.jsonl.gz", "a/c.csv", "a/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert locate(source(tmp_path / "**/*")).paths == (tmp_path / "a/c.csv", tmp_path / "b.jsonl.gz")  # type: ignore[union-attr]
    known = Fingerprints(tmp_path / "store")
    before = fingerprint(source(tmp_path / "*.gz"), known)
    assert before != fingerprint(source(tmp_path / "**/*"), known)
    (tmp_path / "e.csv.gz").touch()
    assert before != fingerprint(source(tmp_path / "*.gz"), known)
    with pytest.raises(SourceError, match="no such file"):
        locate(source(tmp_path / "*.tsv"))


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(SourceError, match="a folder without supported files"):
        locate(source(tmp_path))


def test_the_fingerprint_is_the_content(tmp_path: Path) -> None:
    known = Fingerprints(tmp_path / "store")
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"text": "t"}\n')
    one, two = (fingerprint(source(tmp_path / name), known) for name in ("a.jsonl", "b.jsonl"))
    assert one == two
    (tmp_path / "b.jsonl").write_text('{"text": "t"}\n{"text": "grown"}\n')
    assert fingerprint(source(tmp_path / "b.jsonl"), known) != two


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.jsonl").touch()
    monkeypatch.setattr(Fingerprints, "of", refuse)
    with pytest.raises(SourceError, match=r"^sources\.s\.path: cannot be read: .*Permission denied"):
        fingerprint(source(tmp_path / "a.jsonl"), Fingerprints(tmp_path / "store"))


def test_a_hub_out_of_reach_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        SourceError, match=r"^sources\.s\.path: no commit for the Hub dataset: .*offline.*; got org/name v1; "
    ) as told:
        fingerprint(source("org/name", revision="v1"), Fingerprints(tmp_path))
    assert "\n" not in str(told.value)
    with pytest.raises(SourceError, match="no commit for the Hub dataset"):
        fingerprint(source("a--b/c"), Fingerprints(tmp_path))


def test_a_revision_is_resolved_to_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def dataset_info(_: Any, repo: str, *, revision: str | None, timeout: float) -> Any:
        asked.append((repo, revision))
        assert timeout > 0
        return types.SimpleNamespace(sha=None if revision == "odd" else "c" * 40)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    assert fingerprint(source("org/name", revision="f" * 40), Fingerprints(tmp_path)) == "f" * 40
    assert not asked, "a full commit asks nobody"
    assert fingerprint(source("org/name", revision="v1"), Fingerprints(tmp_path)) == "c" * 40
    assert asked == [("org/name", "v1")]
    with pytest.raises(SourceError, match="the Hub names no commit"):
        fingerprint(source("org/name", revision="odd"), Fingerprints(tmp_path))
