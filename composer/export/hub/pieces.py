"""What a repository is to hold: files of a folder by their place there, and the two that are written at the push itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from composer.fingerprint import hidden, sha256

CARD = "README.md"
RECORD = "sft-composer.json"
"""Where a push lists what it left in a repository; what is not listed there is somebody else's."""

CHUNK = 1 << 20


@dataclass(frozen=True)
class Piece:
    """One file: its place in the repository and its content, a file on disk or bytes."""

    path: str
    content: Path | bytes
    n_bytes: int
    sha256: str

    def is_as(self, mark: str) -> bool:
        """Return whether the repository's mark of a file, ``sha256:...`` or ``git:...``, is that of this content."""
        kind, _, found = mark.partition(":")
        return found == (self.sha256 if kind == "sha256" else self._blob())

    def _blob(self) -> str:
        """Return git's name of the content."""
        found = hashlib.sha1(b"blob %d\0" % self.n_bytes, usedforsecurity=False)
        if isinstance(self.content, bytes):
            found.update(self.content)
            return found.hexdigest()
        with self.content.open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
        return found.hexdigest()


def of_bytes(path: str, content: bytes) -> Piece:
    """Return bytes as a piece.

    Examples
    --------
    >>> of_bytes("a.txt", b"a\\n").is_as("git:78981922613b2afb6025042ff6bd878ac1994e85")
    True
    """
    return Piece(path, content, len(content), hashlib.sha256(content).hexdigest())


def pieces_in(folder: Path, *, known: Mapping[str, str] | None = None, leave: Sequence[str] = ()) -> list[Piece]:
    """Return the files below a folder, in the order of their paths, without hidden ones and those to ``leave``.

    ``known`` gives the sha256 of files by path, as a manifest has them; the others are read.
    """
    known = known or {}
    files = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file() and not hidden(path, folder)
    }
    return [
        Piece(name, files[name], files[name].stat().st_size, known.get(name) or sha256(files[name]))
        for name in sorted(files)
        if name not in leave
    ]


def record(pieces: Sequence[Piece], *, artifact: str) -> Piece:
    """Return the list of what a push leaves in a repository, as a piece of its own."""
    told = {
        "made_by": "sft-composer",
        "artifact": artifact,
        "files": {piece.path: {"bytes": piece.n_bytes, "sha256": piece.sha256} for piece in pieces},
    }
    return of_bytes(RECORD, (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode())
