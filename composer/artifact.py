"""The store: every result is a folder ``<store>/<kind>/<key>`` that is complete or does not exist.

The key is blake2b over canonical JSON of (kind, version, spec, input keys), so the same question always has the same place.
A folder is built in ``.partial``, its files are hashed, the manifest is written last, and one rename makes it an artifact.
A lock per key lets several processes share a store; a process that dies leaves a partial folder whose shards are used again.

A store at a URL is the same store on this machine, whose artifacts are copied to the URL when they are made and fetched from it
when they are asked for (:mod:`composer.remote`).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from composer.errors import InputError, StoreError
from composer.fingerprint import sha256, write_json
from composer.manifest import MANIFEST, Clock, Manifest, read_manifest, records_of
from composer.remote import Remote, cache_of, is_url
from composer.spec import canonical, digest, plain


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
    """All artifacts below one folder, or below one URL with a folder of this machine before it.

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
        self.remote = Remote(os.fspath(root)) if is_url(os.fspath(root)) else None
        self.root = Path(root) if self.remote is None else cache_of(self.remote)

    def __str__(self) -> str:
        return str(self.root) if self.remote is None else self.remote.url

    @staticmethod
    def key(kind: str, *, version: int, spec: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
        """Return the 16 hex digits that name the answer to a question; ``inputs`` maps roles to keys."""
        return digest({"kind": kind, "version": version, "spec": spec, "inputs": inputs})

    def has(self, kind: str, key: str) -> bool:
        """Return whether the artifact is complete; nothing is fetched."""
        return self._here(kind, key) is not None or bool(self.remote and self.remote.manifest(kind, key))

    def find(self, kind: str, key: str) -> Artifact | None:
        """Return the artifact if it is complete; where it is at the URL alone it is fetched."""
        if (found := self._here(kind, key)) or self.remote is None:
            return found
        if (there := self.remote.manifest(kind, key)) is None:
            return None
        with self._held(kind, key) as aside:
            if self._here(kind, key) is None:
                self.remote.fetch(there, aside.with_suffix(".fetched"))
                self._put(aside.with_suffix(".fetched"), there)
        return self._here(kind, key)

    def _here(self, kind: str, key: str) -> Artifact | None:
        path = self.root / kind / key
        return Artifact(kind, key, path) if (path / MANIFEST).is_file() else None

    @contextmanager
    def _held(self, kind: str, key: str) -> Iterator[Path]:
        """Hold the lock of a key, and give the place where its folder is built."""
        from filelock import FileLock

        partial = self.root / ".partial" / kind / key
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{partial}.lock"):
                yield partial
        except Exception as error:
            if not _is_of_the_disk(error):
                raise
            hint = "check space and rights, or choose another store; what was complete stays complete"
            raise StoreError(f"cannot build {kind}/{key}: {error}", where=str(self.root), hint=hint) from error

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
        key = self.key(kind, version=version, spec=spec, inputs=inputs)
        if not rebuild and (found := self.find(kind, key)):
            return found
        with self._held(kind, key) as partial:
            if not rebuild and (found := self._here(kind, key)):
                return found
            partial.mkdir(exist_ok=True)
            clock = Clock()
            stats = build(partial)
            manifest = Manifest(
                kind=kind, key=key, version=version, spec=plain(spec), inputs=plain(inputs), files=records_of(partial),
                stats=dict(stats), made=clock.made(),
            )  # fmt: skip
            artifact = self._keep(partial, manifest)
        if self.remote is not None:
            self.remote.push(artifact.path, artifact.manifest)
        return artifact

    def _keep(self, partial: Path, manifest: Manifest) -> Artifact:
        for left in partial.glob(".*"):  # shards have served
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        if found := self._here(manifest.kind, manifest.key):
            self._note_drift(found, manifest)
            shutil.rmtree(partial)
            return found
        write_json(partial / MANIFEST, manifest.model_dump(mode="json"))
        return self._put(partial, manifest)

    def _put(self, folder: Path, manifest: Manifest) -> Artifact:
        """Make a whole folder an artifact."""
        final = self.root / manifest.kind / manifest.key
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # a folder without a manifest was never complete
            shutil.rmtree(final)
        folder.rename(final)
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
        found += self._only_there(kind)
        return sorted(found, key=lambda artifact: (artifact.manifest.made["at"], artifact.kind, artifact.key))

    def _only_there(self, kind: str | None) -> Iterator[Artifact]:
        """Yield what is at the URL and not here, by its manifest alone."""
        if self.remote is None:
            return
        for each, key in self.remote.every(kind):
            folder = self.root / ".manifests" / each / key
            if self._here(each, key) is not None:
                continue
            if not (folder / MANIFEST).is_file() and (manifest := self.remote.manifest(each, key)):
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
            if (folder / MANIFEST).is_file():
                yield Artifact(each, key, folder)

    def get(self, reference: str) -> Artifact:
        """Return the artifact that ``kind``, ``key``, ``kind/key`` or a unique beginning of a key names.

        A bare kind means the newest of that kind.
        """
        kind, _, start = reference.rpartition("/")
        every = self.all()
        if not kind and (newest := [a for a in every if a.kind == reference]):
            return self.find(newest[-1].kind, newest[-1].key) or newest[-1]
        named = [a for a in every if a.key.startswith(start) and kind in ("", a.kind)]
        if len(named) == 1:
            return self.find(named[0].kind, named[0].key) or named[0]
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
        if self.remote is not None and self._here(artifact.kind, artifact.key) is None:
            return self.remote.damaged(artifact.manifest)
        records = artifact.manifest.files
        return [n for n, record in records.items() if not (f := artifact.path / n).is_file() or sha256(f) != record.sha256]


def shard(folder: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Return the shard ``folder/name``, built aside and renamed if it is not there yet, so that a rerun does only the rest."""
    path = folder / name
    if not path.exists():
        aside = folder / f".{name}.{uuid4().hex}.aside"  # its own: a worker that was given up may still be at the same shard
        build(aside)
        aside.replace(path)
    return path


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


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _is_of_the_disk(error: Exception) -> bool:
    """Return whether an error is the file system's; libraries below wrap a full disk in errors of their own."""
    return isinstance(error, OSError) or any(os.strerror(code) in str(error) for code in _FULL)
