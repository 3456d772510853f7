"""Content identity of files, remembered by path, size and time, so that a large file is read once; files written whole."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

from composer.spec import digest, plain


def write_json(path: Path, value: Any) -> None:
    """Write plain values as indented JSON with sorted keys, as :func:`write_text` does."""
    write_text(path, json.dumps(plain(value), indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text aside and rename it: writers of one file do not meet, and where the disk is full the old file stays."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.aside")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Fingerprints:
    """sha256 of local files and folders, remembered by path, size and modification time below a store."""

    def __init__(self, root: Path) -> None:
        self.path = root / "fingerprints.json"

    @cached_property
    def _known(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def of(self, path: Path) -> str:
        """Return the fingerprint of a file, or of a folder's files with their names."""
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and not hidden(p, path))
            return digest({p.relative_to(path).as_posix(): self.of(p) for p in files}, n_bytes=32)
        stat = path.stat()
        name, state = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        if (known := self._known.get(name)) and known[0] == state:
            return str(known[1])
        self._known[name] = [state, sha256(path)]
        if self.path.parent.is_dir():  # looking at a plan makes no store
            write_json(self.path, self._known)
        return str(self._known[name][1])


def hidden(path: Path, root: Path) -> bool:
    """Return whether a path below a root, or a folder on the way to it, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)
