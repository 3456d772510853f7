"""The store: every result is a folder ``<store>/<kind>/<key>`` that is complete or does not exist.

The key is blake2b over canonical JSON of (kind, version, spec, input keys), so the same question always has the same place.
A folder is built in ``.partial``, its files are hashed, the manifest is written last, and one rename makes it an artifact.
A lock per key lets several processes share a store; a process that dies leaves a partial folder whose shards are used again.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from composer.errors import InputError, StoreError
from composer.fingerprint import hidden, sha256, write_json
from composer.spec import canonical, digest, plain
from composer.types import FileRecord, Manifest

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artifact:
    """A handle to a complete folder of the store; cheap to pass, its tables stay on disk."""

    kind: str
    key: str
    path: Path

    @cached_property
    def manifest(self) -> Manifest:
        """The artifact's manifest."""
        return read_manifest(self.path)

    def file(self, name: str) -> Path:
        """Return the path of one of its files, or say which there are."""
        if name not in self.manifest.files:
            known = ", ".join(self.manifest.files)
            raise StoreError(f"no file {name}", where=f"{self.kind}/{self.key}", expected=known)
        return self.path / name

    def json(self, name: str) -> Any:
        """Return the content of a JSON file."""
        return json.loads(self.file(name).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Change:
    """One field in which two artifacts of a kind differ."""

    field: str
    before: Any
    after: Any


class Store:
    """All artifacts below one folder.

    Examples
    --------
    >>> import tempfile
    >>> store = Store(tempfile.mkdtemp())
    >>> def build(folder):
    ...     (folder / "data.json").write_text("[1]")
    ...     return {"rows": 1}
    >>> made = store.make("number", version=1, spec={"a": 1}, inputs={}, build=build)
    >>> made.json("data.json"), made.manifest.stats, store.find("number", made.key) == made
    ([1], {'rows': 1}, True)
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    @staticmethod
    def key(kind: str, *, version: int, spec: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
        """Return the 16 hex digits that name the answer to a question; ``inputs`` maps roles to keys."""
        return digest({"kind": kind, "version": version, "spec": spec, "inputs": inputs})

    def find(self, kind: str, key: str) -> Artifact | None:
        """Return the artifact if it is complete."""
        path = self.root / kind / key
        return Artifact(kind, key, path) if (path / MANIFEST).is_file() else None

    def make(
        self,
        kind: str,
        *,
        version: int,
        spec: Mapping[str, Any],
        inputs: Mapping[str, Any],
        build: Callable[[Path], Mapping[str, Any]],
        rebuild: bool = False,
    ) -> Artifact:
        """Return the artifact, built by ``build(folder) -> stats`` if it is not there yet.

        With ``rebuild`` it is built once more and compared: other content under the same key is recorded as drift, and the
        first content stays.

        Raises
        ------
        StoreError
            Where the store cannot be written.
        """
        from filelock import FileLock

        key = self.key(kind, version=version, spec=spec, inputs=inputs)
        if not rebuild and (found := self.find(kind, key)):
            return found
        partial = self.root / ".partial" / kind / key
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{partial}.lock"):
                if not rebuild and (found := self.find(kind, key)):
                    return found
                partial.mkdir(exist_ok=True)
                begun, cpu = time.time(), _cpu_seconds()
                stats = build(partial)
                manifest = Manifest(
                    kind=kind, key=key, version=version, spec=plain(spec), inputs=plain(inputs),
                    files=_file_records(partial), stats=dict(stats), made=_made(begun, cpu),
                )  # fmt: skip
                return self._keep(partial, manifest)
        except Exception as error:
            if not _is_of_the_disk(error):
                raise
            hint = "check space and rights, or choose another store; what was complete stays complete"
            raise StoreError(f"cannot build {kind}/{key}: {error}", where=str(self.root), hint=hint) from error

    def _keep(self, partial: Path, manifest: Manifest) -> Artifact:
        for left in partial.glob(".*"):  # shards have served
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        final = self.root / manifest.kind / manifest.key
        if found := self.find(manifest.kind, manifest.key):
            self._note_drift(found, manifest)
            shutil.rmtree(partial)
            return found
        write_json(partial / MANIFEST, manifest.model_dump(mode="json"))
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # a folder without a manifest was never complete
            shutil.rmtree(final)
        partial.rename(final)
        return Artifact(manifest.kind, manifest.key, final)

    def _note_drift(self, found: Artifact, again: Manifest) -> None:
        old = {name: record.sha256 for name, record in found.manifest.files.items()}
        new = {name: record.sha256 for name, record in again.files.items()}
        path = self.root / "drift" / f"{found.kind}-{found.key}.json"
        if old == new:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"kind": found.kind, "key": found.key, "kept": old, "other": new, "made": again.made})

    def drift(self) -> list[dict[str, Any]]:
        """Return the records of artifacts whose content came out otherwise when they were built again."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((self.root / "drift").glob("*.json"))]

    def all(self, kind: str | None = None) -> list[Artifact]:
        """Return the complete artifacts, the newest last."""
        found = [
            Artifact(path.parent.parent.name, path.parent.name, path.parent)
            for path in self.root.glob(f"{kind or '[!.]*'}/*/{MANIFEST}")
        ]
        return sorted(found, key=lambda artifact: (artifact.manifest.made["at"], artifact.kind, artifact.key))

    def get(self, reference: str) -> Artifact:
        """Return the artifact that ``kind``, ``key``, ``kind/key`` or a unique beginning of a key names.

        A bare kind means the newest of that kind.
        """
        kind, _, start = reference.rpartition("/")
        every = self.all()
        if not kind and (newest := [a for a in every if a.kind == reference]):
            return newest[-1]
        named = [a for a in every if a.key.startswith(start) and kind in ("", a.kind)]
        if len(named) == 1:
            return named[0]
        hint = f"kinds here: {', '.join(sorted({a.kind for a in every})) or 'none yet'}; see sft-composer ls"
        raise InputError("no such artifact" if not named else "several artifacts begin so", got=reference, hint=hint)

    def why(self, artifact: Artifact) -> tuple[Artifact | None, list[Change]]:
        """Return the artifact's predecessor of the same kind and the fields in which their keys differ."""
        older = [a for a in self.all(artifact.kind) if a.manifest.made["at"] < artifact.manifest.made["at"]]
        if not older:
            return None, []
        before, after = ({**flat("", m.spec), **flat("inputs", m.inputs), "version": m.version}
                         for m in (older[-1].manifest, artifact.manifest))  # fmt: skip
        names = sorted(before.keys() | after.keys())
        changes = [Change(n, before.get(n), after.get(n)) for n in names if before.get(n) != after.get(n)]
        return older[-1], changes

    def verify(self, artifact: Artifact) -> list[str]:
        """Return the names of files whose content is not what the manifest says."""
        records = artifact.manifest.files
        return [n for n, record in records.items() if not (f := artifact.path / n).is_file() or sha256(f) != record.sha256]


def shard(folder: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Return the shard ``folder/name``, built aside and renamed if it is not there yet, so that a rerun does only the rest."""
    path = folder / name
    if not path.exists():
        aside = folder / f".{name}.aside"
        build(aside)
        aside.replace(path)
    return path


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises
    ------
    StoreError
        Where it is damaged.
    """
    path = folder / MANIFEST
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"damaged manifest: {error}", where=str(path), hint="remove the folder and run again") from error


def flat(prefix: str, value: Any) -> dict[str, Any]:
    """Return nested mappings as one level of dotted names.

    Examples
    --------
    >>> flat("", {"law": {"name": "uniform"}, "n": 1})
    {'law.name': 'uniform', 'n': 1}
    """
    if isinstance(value, Mapping):
        return {k: v for name, item in value.items() for k, v in flat(f"{prefix}.{name}" if prefix else name, item).items()}
    return {prefix: canonical(value) if isinstance(value, (list, tuple)) else value}


def _is_of_the_disk(error: Exception) -> bool:
    """Return whether an error is the file system's; libraries below wrap a full disk in errors of their own."""
    return isinstance(error, OSError) or os.strerror(errno.ENOSPC) in str(error)


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in sorted(folder.rglob("*")) if p.is_file() and not hidden(p, folder) and p.name != MANIFEST)


def _file_records(folder: Path) -> dict[str, FileRecord]:
    return {
        p.relative_to(folder).as_posix(): FileRecord(sha256=sha256(p), n_bytes=p.stat().st_size, rows=_rows(p))
        for p in _files(folder)
    }


def _rows(path: Path) -> int | None:
    if path.suffix != ".parquet":
        return None
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def _cpu_seconds() -> float:
    """Return what this process and its ended children have used so far."""
    return sum(os.times()[:4])


def _made(begun: float, cpu: float) -> dict[str, Any]:
    return {
        "at": begun,
        "seconds": round(time.time() - begun, 3),
        "cpu_seconds": round(_cpu_seconds() - cpu, 3),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
