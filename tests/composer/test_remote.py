"""A store at a URL: what is made here is read there, whole or not at all, and one machine's fault is not another's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest

from composer.artifact import Artifact, Store
from composer.errors import SpecError, StoreError
from composer.remote import Remote


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket on a server of this machine that speaks S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patched.setenv("AWS_ACCESS_KEY_ID", "planted-name")
        patched.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        system.mkdir("bucket")
        yield "s3://bucket"
    fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    own = tmp_path.name.replace("[", "").replace("]", "")
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{own}/store"
    return f"memory://{own}/store" if request.param == "memory" else (tmp_path / "far").as_uri()


class Machine:
    """A machine of its own: a store whose folder here is its own."""

    def __init__(self, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            patched.setenv("SFT_COMPOSER_CACHE", str(folder))
            self.store = Store(url)

    def make(self, text: str = "one", **spec: Any) -> Artifact:
        def build(folder: Path) -> Mapping[str, Any]:
            (folder / "model").mkdir()
            (folder / "model/data.txt").write_text(text)
            (folder / "empty.txt").write_text("")
            return {"length": len(text)}

        return self.store.make("note", version=1, spec=spec, inputs={}, build=build)

    @property
    def remote(self) -> Remote:
        assert self.store.remote is not None
        return self.store.remote

    def spoil(self, name: str, content: bytes) -> None:
        """Write over the one file of this name that lies in the store."""
        system, base = self.remote._opened
        [path] = system.glob(f"{base}/**/{name}")
        system.pipe_file(path, content)


@pytest.fixture
def machines(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Machine, Machine]:
    return Machine(url, tmp_path / "a", monkeypatch), Machine(url, tmp_path / "b", monkeypatch)


def test_what_one_machine_made_another_has(machines: tuple[Machine, Machine]) -> None:
    here, there = machines
    made = here.make("one", n=1)
    assert there.store.has("note", made.key)
    assert not (there.store.root / "note").exists()  # asking fetches nothing
    found = there.make("two", n=1)
    assert found.file("model/data.txt").read_text() == "one"
    assert found.file("empty.txt").read_text() == ""
    assert found.manifest == made.manifest
    assert found.path != made.path
    assert there.store.verify(found) == []
    assert there.store.find("note", "0" * 16) is None


def test_listing_reads_manifests_alone(machines: tuple[Machine, Machine]) -> None:
    here, there = machines
    made = [here.make(str(n), n=n) for n in range(3)]
    assert [each.key for each in there.store.all()] == [each.key for each in made]
    assert not (there.store.root / "note").exists()
    assert there.store.get(f"note/{made[1].key}").file("model/data.txt").read_text() == "1"
    assert there.store.get("note").key == made[2].key
    assert {path.name for path in (there.store.root / "note").iterdir()} == {made[1].key, made[2].key}


def test_without_a_manifest_nothing_is_there(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = machines
    system, _ = here.remote._opened

    def cut(*_: Any, **__: Any) -> None:
        raise OSError("connection reset by peer")

    with monkeypatch.context() as patched:
        patched.setattr(system, "pipe_file", cut)
        with pytest.raises(StoreError, match=r"the store does not answer: OSError: connection reset.*run again"):
            here.make("one", n=1)
    assert there.store.all() == []
    again = here.make("never built", n=1)
    assert again.file("model/data.txt").read_text() == "one"
    assert there.store.all() == []


def test_damage_is_found_on_reading_and_by_verify(machines: tuple[Machine, Machine]) -> None:
    here, there = machines
    made = here.make("one", n=1)
    here.spoil("model/data.txt", b"two")
    (listed,) = there.store.all()
    assert there.store.verify(listed) == ["model/data.txt"]
    with pytest.raises(StoreError, match=r"damaged in the store; got model/data.txt; remove it there"):
        there.store.find("note", made.key)
    assert not (there.store.root / "note").exists()


def test_writers_of_one_key_never_tear_it(machines: tuple[Machine, Machine]) -> None:
    """Both build other content under one key at the same time; whoever reads has the whole of one."""
    gate = threading.Barrier(2)
    left: list[Artifact] = []

    def work(machine: Machine, text: str) -> None:
        def build(folder: Path) -> Mapping[str, Any]:
            for i in range(5):
                (folder / f"{i}.txt").write_text(text)
            gate.wait(20)
            return {}

        left.append(machine.store.make("torn", version=1, spec={}, inputs={}, build=build))

    threads = [threading.Thread(target=work, args=(each, text)) for each, text in zip(machines, "ab", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    remote = machines[0].remote
    there = remote.manifest("torn", left[0].key)
    assert there is not None
    assert remote.damaged(there) == []


OUTSIDE = ("../../../out.txt", "/out.txt", "model/../../out.txt", "..\\out.txt", "C:out.txt", "a//b", ".", "out\0.txt", "")
CHANGED: list[dict[str, Any]] = [
    *({"files": {name: {"sha256": "0", "n_bytes": 0}}} for name in OUTSIDE), {"kind": "../out"}, {"kind": "other"},
    {"key": "../../out"}, {"key": "0" * 16},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGED)
def test_a_manifest_cannot_lead_out_of_its_folder(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that of a shared store, when it is fetched or listed, nor one that was copied into a folder."""
    here, there = (Machine((tmp_path / "far").as_uri(), tmp_path / name, monkeypatch) for name in ("a", "b"))
    made = here.make("one", n=1)
    bad = json.dumps(made.manifest.model_dump(mode="json") | change)
    (tmp_path / f"far/note/{made.key}/manifest.json").write_text(bad)
    before = {path for path in tmp_path.rglob("*") if (tmp_path / "b") not in path.parents}
    for ask in (lambda: there.store.find("note", made.key), there.store.all):
        with pytest.raises(StoreError, match=r"a file outside its artifact|the manifest of another artifact"):
            ask()
    copied = Store(tmp_path / "copied")
    (copied.root / "note" / made.key).mkdir(parents=True)
    (copied.root / "note" / made.key / "manifest.json").write_text(bad)
    for ask in (copied.all, lambda: copied.verify(Artifact("note", made.key, copied.root / "note" / made.key))):
        with pytest.raises(StoreError, match=r"a file outside its artifact|the manifest of another artifact"):
            ask()
    after = {path for path in tmp_path.rglob("*") if not {tmp_path / "b", tmp_path / "copied"} & {path, *path.parents}}
    assert after == before - {tmp_path / "b"}
    assert not [path for path in (tmp_path / "b").rglob("*") if path.name.startswith("out")]


def test_bad_urls_say_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_COMPOSER_CACHE", str(tmp_path))
    named = "s3://name:secret@bucket/store"  # pragma: allowlist secret
    for odd in (named, named.replace("secret", "a/b"), f"simplecache::{named}", "s3://bucket?key=s"):
        with pytest.raises(SpecError, match="expected credentials in the environment"):
            Store(odd)
    with pytest.raises(StoreError, match=r"cannot open: .*nowhere"):
        Store("nowhere://bucket/store").has("note", "0" * 16)


def test_a_bucket_that_is_not_there_is_told_without_secrets(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(s3.replace("bucket", "absent"), tmp_path, monkeypatch)
    with pytest.raises(StoreError, match="the store does not answer") as told:
        machine.make("one", n=1)
    assert "planted" not in str(told.value)
