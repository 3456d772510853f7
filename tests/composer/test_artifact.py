"""An artifact is complete or does not exist; keys follow content; nothing changes afterwards."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer.artifact import Store, flat, shard
from composer.errors import InputError, StoreError
from composer.fingerprint import Fingerprints
from composer.manifest import MANIFEST
from composer.sweep import sweep

Build = Callable[[Path], Mapping[str, Any]]


def writing(text: str) -> Build:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "data.txt").write_text(text)
        return {"length": len(text)}

    return build


def make(store: Store, text: str = "a", *, build: Build | None = None, rebuild: bool = False, **spec: Any) -> Any:
    return store.make("note", version=1, spec=spec, inputs={}, build=build or writing(text), rebuild=rebuild)


def test_made_once_and_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store, "one", n=1)
    again = make(store, "two", n=1)
    assert made == again
    assert made.file("data.txt").read_text() == "one"
    assert store.find("note", made.key) == made
    assert store.find("note", "0" * 16) is None
    assert store.verify(made) == []


def test_a_failed_build_leaves_no_artifact_and_is_made_later(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> dict[str, Any]:
        (folder / "data.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        make(store, build=fail)
    assert store.all() == []
    assert make(store, "whole").file("data.txt").read_text() == "whole"


def test_a_folder_without_a_manifest_does_not_exist(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = store.key("note", version=1, spec={}, inputs={})
    (tmp_path / "note" / key).mkdir(parents=True)
    (tmp_path / "note" / key / "data.txt").write_text("torn")
    assert store.find("note", key) is None
    assert make(store, "whole").file("data.txt").read_text() == "whole"


def test_shards_of_a_killed_build_are_used_again(tmp_path: Path) -> None:
    store, built = Store(tmp_path), []

    def build(folder: Path, stop_at: int) -> dict[str, Any]:
        for i in range(4):
            if i == stop_at:
                raise RuntimeError("killed")
            shard(folder, f"{i}.txt", lambda path, i=i: (built.append(i), path.write_text(str(i)))[0])
        return {}

    with pytest.raises(RuntimeError):
        make(store, build=lambda folder: build(folder, 2))
    made = make(store, build=lambda folder: build(folder, 9))
    assert built == [0, 1, 2, 3]
    assert sorted(made.manifest.files) == [f"{i}.txt" for i in range(4)]


def test_what_is_hidden_is_no_part_of_an_artifact(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (folder / ".shards").mkdir()
        (folder / ".shards" / "0.txt").write_text("aside")
        return dict(writing("x")(folder))

    made = make(Store(tmp_path), build=build)
    assert list(made.manifest.files) == ["data.txt"]
    assert sorted(path.name for path in made.path.iterdir()) == ["data.txt", MANIFEST]


def test_drift_is_recorded_and_the_first_content_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store, "one")
    make(store, "one", rebuild=True)
    assert store.drift() == []
    make(store, "two", rebuild=True)
    assert made.file("data.txt").read_text() == "one"
    assert [each["key"] for each in store.drift()] == [made.key]
    make(store, "one", rebuild=True)
    assert store.drift() == []


def test_two_writers_of_one_key_build_once(tmp_path: Path) -> None:
    store, calls, gate = Store(tmp_path), [], threading.Barrier(2)

    def build(folder: Path) -> dict[str, Any]:
        calls.append(1)
        return dict(writing("x")(folder))

    def work() -> None:
        gate.wait()
        make(store, build=build)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


def test_why_names_the_fields_that_changed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = make(store, law={"name": "uniform", "floor": 0.1}, seed=1)
    second = make(store, law={"name": "uniform", "floor": 0.2}, seed=1)
    before, changes = store.why(second)
    assert before == first
    assert [(c.field, c.before, c.after) for c in changes] == [("law.floor", 0.1, 0.2)]
    assert store.why(first) == (None, [])


def test_get_by_kind_key_and_beginning(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = [make(store, n=i) for i in range(3)]
    assert store.get("note") == made[-1]
    assert store.get(made[0].key[:8]) == store.get(f"note/{made[0].key}") == made[0]
    with pytest.raises(InputError, match=r"no such artifact; got nothing; kinds here: note"):
        store.get("nothing")
    with pytest.raises(InputError, match="several artifacts begin so"):
        store.get("note/")


def test_verify_finds_damage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store)
    (made.path / "data.txt").write_text("b")
    assert store.verify(made) == ["data.txt"]
    (made.path / MANIFEST).write_text("{")
    with pytest.raises(StoreError, match="damaged manifest"):
        store.all()


def test_an_unwritable_store_is_a_clear_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot build note/.*choose another store"):
        make(Store(tmp_path / "file"))


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("parquet: No space left on device (os error 28)")]
)
def test_a_full_disk_is_a_clear_fault_and_loses_nothing(tmp_path: Path, error: Exception) -> None:
    store, before = Store(tmp_path), make(Store(tmp_path), "kept")

    def full(folder: Path) -> dict[str, Any]:
        (folder / "data.txt").write_text("half")
        raise error

    with pytest.raises(StoreError, match=r"cannot build note/.*No space left.*check space and rights"):
        make(store, build=full, n=2)
    assert store.all() == [before]
    assert make(store, "whole", n=2).file("data.txt").read_text() == "whole"


def test_the_manifest_counts_rows_and_holds_no_path(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, Any]:
        pl.DataFrame({"a": [1, 2, 3]}).write_parquet(folder / "t.parquet")
        return {}

    made = make(Store(tmp_path), build=build)
    assert made.manifest.files["t.parquet"].rows == 3
    assert str(tmp_path) not in (made.path / MANIFEST).read_text()
    with pytest.raises(StoreError, match=r"no file u\.parquet; expected t\.parquet"):
        made.file("u.parquet")


def test_fingerprints_follow_content_and_remember(tmp_path: Path) -> None:
    file, prints = tmp_path / "a.txt", Fingerprints(tmp_path / "store")
    file.write_text("one")
    assert prints.of(file)
    assert not (tmp_path / "store").exists()
    (tmp_path / "store").mkdir()
    prints = Fingerprints(tmp_path / "store")
    first = prints.of(file)
    assert Fingerprints(tmp_path / "store").of(file) == first
    known = json.loads((tmp_path / "store" / "fingerprints.json").read_text())
    assert list(known) == [str(file.resolve())]
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    assert prints.of(file) != first
    folder = prints.of(tmp_path)
    (tmp_path / "b.txt").write_text("x")
    assert prints.of(tmp_path) != folder


def test_flat() -> None:
    assert flat("", {"a": {"b": [1, 2]}, "c": None}) == {"a.b": "[1,2]", "c": None}


def test_a_sweep_removes_what_was_left_half_built_and_nothing_else(tmp_path: Path) -> None:
    from filelock import FileLock

    store = Store(tmp_path)
    kept = store.make("number", version=1, spec={}, inputs={}, build=lambda folder: {"n": (folder / "a").write_text("1")})
    for key in ("old", "wanted", "held", "young"):
        partial = tmp_path / ".partial" / "number" / key
        partial.mkdir(parents=True)
        (partial / "shard").write_text("x")
        if key != "young":
            for path in (partial / "shard", partial):
                os.utime(path, (0, 0))
    with FileLock(tmp_path / ".partial" / "number" / "held.lock"):
        assert sweep(store, keep={"wanted"}) == [tmp_path / ".partial" / "number" / "old"]
    assert {path.name for path in (tmp_path / ".partial" / "number").iterdir() if path.is_dir()} == {"wanted", "held", "young"}
    assert store.all() == [kept]
    assert sweep(store, older_than_seconds=-1) != []
    assert not [path for path in (tmp_path / ".partial" / "number").iterdir() if path.is_dir()]
