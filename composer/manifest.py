"""The manifest of an artifact: what is in its folder, and when, where and at what cost it was made."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from composer.errors import StoreError
from composer.fingerprint import hidden, sha256
from composer.types import FileRecord, Manifest

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises
    ------
    StoreError
        Where it is damaged.
    """
    path = folder / MANIFEST
    try:
        return parsed(path.read_bytes(), where=str(path))
    except OSError as error:
        raise StoreError(f"damaged manifest: {error}", where=str(path), hint="remove the folder and run again") from error


def parsed(text: bytes, *, where: str) -> Manifest:
    """Return the manifest that a text is.

    Raises
    ------
    StoreError
        Where it is none.
    """
    try:
        return Manifest(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise StoreError(f"damaged manifest: {error}", where=where, hint="remove the folder and run again") from error


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
