"""The manifest of an artifact: what is in its folder, and when, where and at what cost it was made."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import field_validator

from composer.errors import SpecError, StoreError
from composer.fingerprint import hidden, sha256
from composer.spec import Spec

MANIFEST = "manifest.json"


class FileRecord(Spec):
    """What a manifest remembers of one file."""

    sha256: str
    n_bytes: int
    rows: int | None = None


class Manifest(Spec):
    """The record that makes a folder an artifact; ``made`` (time, machine, seconds) never enters a key.

    Stores are copied and shared, so its files lie in that folder and nowhere else, whoever wrote it.
    """

    kind: str
    key: str
    version: int
    spec: dict[str, Any]
    inputs: dict[str, Any]
    files: dict[str, FileRecord]
    stats: dict[str, Any]
    made: dict[str, Any]

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            if not is_inside(name):
                raise SpecError("a file outside its artifact", got=name)
        return files


def is_inside(name: str) -> bool:
    """Return whether a relative name stays in the folder it starts from, on every system.

    Examples
    --------
    >>> is_inside("model/config.json"), is_inside("../key"), is_inside("/etc/passwd"), is_inside("C:\\\\key")
    (True, False, False, False)
    """
    parts = name.split("/")
    return not (any(sign in name for sign in "\\:\0") or any(part in ("", ".", "..") for part in parts))


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises
    ------
    StoreError
        Where it is damaged.
    """
    path = folder / MANIFEST
    try:
        return parsed(path.read_bytes(), folder.parent.name, folder.name, where=str(path))
    except OSError as error:
        raise StoreError(f"damaged manifest: {error}", where=str(path), hint="remove the folder and run again") from error


def parsed(text: bytes, kind: str, key: str, *, where: str) -> Manifest:
    """Return the manifest that a text is, of the artifact ``kind/key``.

    Raises
    ------
    StoreError
        Where it is none, or that of another artifact: it says where files go.
    """
    hint = "remove the folder and run again"
    try:
        manifest = Manifest(**json.loads(text))
    except (ValueError, TypeError, RecursionError, SpecError) as error:
        raise StoreError(f"damaged manifest: {error}", where=where, hint=hint) from error
    if (manifest.kind, manifest.key) != (kind, key):
        got = f"{manifest.kind}/{manifest.key}"
        raise StoreError("the manifest of another artifact", where=where, expected=f"{kind}/{key}", got=got, hint=hint)
    return manifest


def records_of(folder: Path) -> dict[str, FileRecord]:
    """Return what a manifest says of the files of a folder."""
    return {
        path.relative_to(folder).as_posix(): FileRecord(sha256=sha256(path), n_bytes=path.stat().st_size, rows=_rows(path))
        for path in _files(folder)
    }


class Clock:
    """What the making of an artifact takes, from now on."""

    def __init__(self) -> None:
        self._begun, self._cpu = time.time(), _cpu_seconds()

    def made(self) -> dict[str, Any]:
        """Return when the making began, how long it took, and on what machine."""
        return {
            "at": self._begun,
            "seconds": round(time.time() - self._begun, 3),
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 3),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
        }


def _cpu_seconds() -> float:
    """Return what this process and its ended children have used so far."""
    return sum(os.times()[:4])


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not hidden(path, folder) and path.name != MANIFEST)


def _rows(path: Path) -> int | None:
    if path.suffix != ".parquet":
        return None
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)
