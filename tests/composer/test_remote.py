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
    assert here.store.remote is not None
    system, _ = here.store.remote._opened

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
    remote = here.store.remote
    assert remote is not None
    system, _ = remote._opened
    system.pipe_file(f"{remote._place(made.manifest)}/model/data.txt", b"two")
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
    remote = machines[0].store.remote
    assert remote is not None
    there = remote.manifest("torn", left[0].key)
    assert there is not None
    assert remote.damaged(there) == []


def test_a_manifest_cannot_lead_out_of_its_folder(machines: tuple[Machine, Machine]) -> None:
    here, there = machines
    made = here.make("one", n=1)
    remote = here.store.remote
    assert remote is not None
    system, base = remote._opened
    bad = made.manifest.model_dump(mode="json")
    bad["files"] = {"../../../out.txt": bad["files"]["empty.txt"]}
    system.pipe_file(f"{base}/note/{made.key}/manifest.json", json.dumps(bad).encode())
    with pytest.raises(StoreError, match=r"a file outside its artifact; got \.\./\.\./\.\./out\.txt"):
        there.store.find("note", made.key)


def test_bad_urls_say_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_COMPOSER_CACHE", str(tmp_path))
    with pytest.raises(SpecError, match="expected credentials in the environment"):
        Store("s3://name:secret@bucket/store")  # pragma: allowlist secret
    with pytest.raises(StoreError, match=r"cannot open: .*nowhere"):
        Store("nowhere://bucket/store").has("note", "0" * 16)


def test_a_bucket_that_is_not_there_is_told_without_secrets(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(s3.replace("bucket", "absent"), tmp_path, monkeypatch)
    with pytest.raises(StoreError, match="the store does not answer") as told:
        machine.make("one", n=1)
    assert "planted" not in str(told.value)
