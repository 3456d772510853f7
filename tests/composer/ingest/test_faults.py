"""The fault suite: whatever lies in a file, no good row is lost, every row is accounted for, and nobody sees a traceback."""

from __future__ import annotations

import errno
import json
import os
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer.artifact import Artifact, Store
from composer.conversation import whole
from composer.errors import SourceError, StoreError
from composer.fingerprint import sha256
from composer.ingest import ingest, read
from composer.types import Source

MESSY = runpy.run_path(str(Path(__file__).parents[2] / "messy.py"))
Fate = tuple[str, str, str | None]  # kept, repaired or dropped; the words; what the last turn says


def source(path: object, **fields: Any) -> Source:
    return Source(**{"name": "s", "path": str(path), "domain": "d", **fields})


def jsonl(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def parts(folder: Path, word: str) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(f"{word}-*.parquet")) for row in pl.read_parquet(path).iter_rows(named=True)]


def outcome(made: Source, folder: Path) -> tuple[dict[int, Fate], dict[str, Any]]:
    """Read a source and return what became of each row, having checked the laws of the counts."""
    folder.mkdir(parents=True)
    stats = read(made, folder)
    rows, dropped = parts(folder, "rows"), parts(folder, "dropped")
    fates: dict[int, Fate] = {}
    for row in rows:
        word = "repaired" if row["repairs"] else "kept"
        fates[row["row"]] = (word, "+".join(sorted(row["repairs"])), row["messages"][-1]["content"])
    fates |= {row["row"]: ("dropped", row["reason"], None) for row in dropped}
    assert len(fates) == len(rows) + len(dropped) == stats["seen"], "a row has two fates, or none"
    assert stats["seen"] == stats["kept"] + stats["repaired"] + sum(stats["dropped"].values())
    assert stats["samples"] == stats["kept"] + stats["repaired"] == len(rows) == sum(stats["shapes"].values())
    assert [stats[word] for word in ("kept", "repaired")] == [
        sum(fate[0] == word for fate in fates.values()) for word in ("kept", "repaired")
    ]
    tally: dict[str, int] = {}
    for row in dropped:
        tally[row["reason"]] = tally.get(row["reason"], 0) + 1
    assert stats["dropped"] == tally
    return fates, stats


# The messy set ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("messy")
    return folder, MESSY["write"](folder)


def test_the_generator_writes_the_same_bytes_twice(messy: tuple[Path, list[Any]], tmp_path: Path) -> None:
    folder, labels = messy
    assert MESSY["write"](tmp_path / "again") == labels
    names = sorted(path.name for path in folder.iterdir())
    assert [sha256(tmp_path / "again" / name) for name in names] == [sha256(folder / name) for name in names]
    assert set(MESSY["OPTIONS"]) <= set(names), "options of a file that is not written"


def test_every_row_becomes_what_its_label_says(messy: tuple[Path, list[Any]], tmp_path: Path) -> None:
    folder, labels = messy
    wrong: list[str] = []
    for fields in MESSY["sources"](folder):
        wanted = {label.row: label for label in labels if label.file == fields["name"]}
        try:
            fates, _ = outcome(Source(**fields), tmp_path / fields["name"])
        except (Exception, AssertionError) as error:
            wrong.append(f"{fields['name']}: {type(error).__name__}: {str(error)[:300]}")
            continue
        wrong += _differences(fields["name"], wanted, fates)
    assert not wrong, f"{len(wrong)} files\n" + "\n".join(wrong)


def _differences(name: str, wanted: dict[int, Any], fates: dict[int, Fate]) -> list[str]:
    """Return nothing, or one text with the first rows of a file that did not become what they should."""
    told = []
    for row in sorted(wanted.keys() | fates.keys()):
        label, fate = wanted.get(row), fates.get(row)
        if not (label and fate and label[2:4] == fate[:2] and label.answer in (None, fate[2])):
            told.append(f"  row {row}: wanted {str(label and label[2:])[:80]}, got {str(fate)[:80]}")
    more = f"  and {len(told) - 5} more" if len(told) > 5 else ""
    return ["\n".join([name, *told[:5], *([more] if more else [])])] if told else []


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json.gz"])
def test_tools_calls_and_thinking_survive(messy: tuple[Path, list[Any]], tmp_path: Path, name: str) -> None:
    folder, _ = messy
    raws = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    outcome(source(folder / name), tmp_path / "out")
    compared = 0
    for row in parts(tmp_path / "out", "rows"):
        raw = raws[row["row"]]
        if not isinstance(raw.get("messages"), list):
            continue
        found = whole(row["messages"], row["extras"])
        tools = raw.get("tools")
        assert found.tools == (json.loads(tools) if isinstance(tools, str) else tools)
        for turn, given in zip(found.turns, raw["messages"], strict=False):
            thinking = given.get("thinking", given.get("reasoning_content"))
            for key, value in (("tool_calls", given.get("tool_calls")), ("thinking", thinking), ("name", given.get("name"))):
                assert turn.get(key) == value
                compared += value is not None
    assert compared == 7


def test_every_word_and_every_format_is_in_the_set(messy: tuple[Path, list[Any]]) -> None:
    folder, labels = messy
    words = {label.reason for label in labels if label.fate == "dropped"}
    assert words >= {
        "invalid_json", "invalid_encoding", "invalid_csv", "wrong_fields", "truncated_file", "unreadable_file", "not_an_object",
        "unknown_shape", "other_shape", "wrong_type", "unknown_role", "unsupported_content", "no_answer", "empty_answer",
        "empty_prompt", "duplicate",
    }  # fmt: skip
    repairs = {word for label in labels if label.fate == "repaired" for word in label.reason.split("+")}
    assert repairs == {"control_characters", "lone_surrogates", "lenient_json", "trailing_turns"}
    endings = {"".join(path.suffixes[-2:]) for path in folder.iterdir()}
    assert endings >= {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".jsonl.zst", ".csv.gz"}


def test_the_whole_set_is_one_source_too(messy: tuple[Path, list[Any]], tmp_path: Path) -> None:
    """All files in one folder: numbers run on over the files, and only copies across files are counted otherwise."""
    folder, _ = messy
    fates, stats = outcome(source(folder), tmp_path / "out")
    assert sorted(fates) == list(range(len(fates))), "a number is missing"
    assert stats["samples"] > 300


# Files --------------------------------------------------------------------------------------------------------------------


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
    path = jsonl(tmp_path / name, ["one", "two", "three"])
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


def fresh(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
        jsonl(tmp_path / "in" / name, [f"{name} one", f"{name} two"])
    _refusing("b.jsonl", OSError(number, os.strerror(number)), monkeypatch)
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    texts = {0: "a.jsonl one", 1: "a.jsonl two", 3: "c.jsonl one", 4: "c.jsonl two"}
    assert fates == {row: ("kept", "", text) for row, text in texts.items()} | {2: ("dropped", "unreadable_file", None)}
    lost = parts(tmp_path / "out", "dropped")[0]
    assert "b.jsonl" in lost["text"]
    assert os.strerror(number) in lost["text"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    jsonl(tmp_path / "in/a.jsonl", ["one"])
    jsonl(tmp_path / "in/deep/b.jsonl", ["two"])
    (tmp_path / "in/deep/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    assert sorted(fate[2] for fate in fates.values() if fate[2]) == ["one", "two"]


@pytest.mark.parametrize("target", ["nowhere.jsonl", "itself.jsonl"])
def test_a_link_to_nothing_is_a_file_that_cannot_be_read(tmp_path: Path, target: str) -> None:
    jsonl(tmp_path / "in/a.jsonl", ["one"])
    (tmp_path / "in/itself.jsonl").symlink_to(tmp_path / "in" / target)
    jsonl(tmp_path / "in/z.jsonl", ["two"])
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    assert fates == {0: ("kept", "", "one"), 1: ("dropped", "unreadable_file", None), 2: ("kept", "", "two")}
    assert "itself.jsonl" in parts(tmp_path / "out", "dropped")[0]["text"]


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    jsonl(tmp_path / "elsewhere.jsonl", ["linked"])
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
    jsonl(tmp_path / "in/x.jsonl/inner.jsonl", ["inner"])
    jsonl(tmp_path / "in/y.jsonl", ["outer"])
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    assert sorted(str(fate[2]) for fate in fates.values()) == ["inner", "outer"]
    assert outcome(source(tmp_path / "in/x.jsonl"), tmp_path / "alone")[0] == {0: ("kept", "", "inner")}


@pytest.mark.timeout(20)
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Who opens a pipe waits for a writer; a folder goes on without it, and a source that is one is refused."""
    jsonl(tmp_path / "in/a.jsonl", ["one"])
    os.mkfifo(tmp_path / "in/b.jsonl")
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    assert fates == {0: ("kept", "", "one"), 1: ("dropped", "unreadable_file", None)}
    with pytest.raises(SourceError, match=r"^sources\.s\.path: "):
        read(source(tmp_path / "in/b.jsonl"), fresh(tmp_path / "alone"))


def test_names_of_any_bytes_are_read(tmp_path: Path) -> None:
    for name in ("sp ace.jsonl", "quo'te\".jsonl", "[glob]*.jsonl", "été 🌊.jsonl", "line\nbreak.jsonl"):
        jsonl(tmp_path / "in" / name, [name])
    fates, _ = outcome(source(tmp_path / "in"), tmp_path / "out")
    assert {fate[0] for fate in fates.values()} == {"kept"}
    assert len(fates) == 5
    assert outcome(source(tmp_path / "in/[glob]*.jsonl"), tmp_path / "one")[0] == {0: ("kept", "", "[glob]*.jsonl")}


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    jsonl(tmp_path / "in/a.jsonl", ["one"])
    jsonl(tmp_path / "in/.b.jsonl", ["hidden"])
    jsonl(tmp_path / "in/.cache/c.jsonl", ["hidden"])
    assert outcome(source(tmp_path / "in"), tmp_path / "out")[0] == {0: ("kept", "", "one")}


# The disk -----------------------------------------------------------------------------------------------------------------


def _full_after(n: int, patch: pytest.MonkeyPatch) -> list[Path]:
    """Let the disk be full from the n-th file on; return the paths of what was to be written."""
    import pyarrow.parquet as pq

    written: list[Path] = []

    def full(real: Callable[..., Any]) -> Callable[..., Any]:
        def writing(self: Any, *args: Any, **kwargs: Any) -> Any:
            path = Path(str(self if isinstance(self, Path) else getattr(self, "where", args[0])))
            written.append(path)
            if len(written) > n:
                if path.parent.is_dir():
                    path.write_bytes(b"PAR1 and what a full disk leaves behind")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return real(self, *args, **kwargs)

        return writing

    for owner, name in ((pl.DataFrame, "write_parquet"), (pq.ParquetWriter, "write_table"), (Path, "write_text")):
        patch.setattr(owner, name, full(getattr(owner, name)))
    return written


def test_a_full_disk_is_told_and_the_next_run_goes_on(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full at the first file, at the second, and so on; every time the next run ends with the same bytes."""
    made = source(jsonl(tmp_path / "a.jsonl", [f"the {i % 90} river" for i in range(100)]))

    def make(store: Store) -> Artifact:
        build = partial(ingest, made, tokenizer=tokenizer, max_length=64)
        return store.make("source", version=1, spec={}, inputs={}, build=build)

    with monkeypatch.context() as patch:
        total = len((_full_after(1_000, patch), make(Store(tmp_path / "whole")))[0])
    wanted = make(Store(tmp_path / "whole")).manifest
    assert total >= 4
    for n in range(total):
        store = Store(tmp_path / f"full-{n}")
        with monkeypatch.context() as patch:
            _full_after(n, patch)
            with pytest.raises(StoreError, match=os.strerror(errno.ENOSPC)) as told:
                make(store)
        assert "what was complete stays complete" in str(told.value)
        assert store.all() == []
        again = make(store).manifest
        assert (again.files, again.stats) == (wanted.files, wanted.stats), n


@pytest.mark.parametrize("n", range(6))
def test_a_run_that_dies_while_it_tidies_up_goes_on(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """The shards go file by file, in no certain order; whatever is left of them must not stand in the way."""
    import shutil

    made = source(jsonl(tmp_path / "a.jsonl", [f"the {i % 90} river" for i in range(100)]))
    stats = ingest(made, fresh(tmp_path / "whole"), tokenizer=tokenizer, max_length=64)

    def dying(folder: Path, *_: Any, **__: Any) -> None:
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        for path in (files[::-1] if n % 2 else files)[: n // 2 + 1]:
            path.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", dying)
        with pytest.raises(KeyboardInterrupt):
            ingest(made, fresh(tmp_path / "again"), tokenizer=tokenizer, max_length=64)
    assert ingest(made, tmp_path / "again", tokenizer=tokenizer, max_length=64) == stats
    names = [path.name for path in (tmp_path / "whole").iterdir()]
    assert names
    assert [sha256(tmp_path / "again" / name) for name in names] == [sha256(tmp_path / "whole" / name) for name in names]
