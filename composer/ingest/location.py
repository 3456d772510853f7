"""Where a source lies and what identifies its content: a local file or folder by its bytes, a Hub dataset by its commit.

A path that exists is local, whatever it looks like; what is left of the form ``org/name`` is asked of the Hub.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from composer.errors import SourceError
from composer.fingerprint import Fingerprints
from composer.ingest import hub
from composer.ingest.files import READERS
from composer.ingest.opening import ending
from composer.spec import digest
from composer.types import Source

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class Files:
    """Local files, in the order in which they are read, and the path (or glob) that names them all."""

    root: Path
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Dataset:
    """A dataset on the Hugging Face Hub."""

    repo: str


def locate(source: Source) -> Files | Dataset:
    """Return where a source lies; a folder means every supported file below it, a glob every file it matches, sorted by path.

    Raises
    ------
    SourceError
        For a missing file, an ending without a reader, or a folder without supported files.

    Examples
    --------
    >>> locate(Source(name="dolly", path="databricks/databricks-dolly-15k", domain="general"))
    Dataset(repo='databricks/databricks-dolly-15k')
    """
    where, known = f"sources.{source.name}.path", f"{', '.join(READERS)}, each plain, .gz or .zst"
    root = Path(source.path)
    if not _exists(root):
        if matched := _matched(source.path):
            return Files(root, matched)
        if is_hub_id(source.path):
            return Dataset(source.path)
        hint = "relative paths start at the working directory; a Hub dataset is written org/name"
        raise SourceError("no such file", where=where, got=source.path, hint=hint)
    if not root.is_dir():
        if ending(root) not in READERS:
            raise SourceError("unknown file ending", where=where, expected=known, got=source.path)
        if root.exists() and not root.is_file():
            raise SourceError("not a regular file", where=where, got=source.path)
        return Files(root, (root,))
    paths = tuple(path for path in sorted(root.rglob("*")) if _is_data(path.relative_to(root)) and not path.is_dir())
    if not paths:
        raise SourceError("a folder without supported files", where=where, expected=known, got=source.path)
    return Files(root, paths)


def fingerprint(source: Source, fingerprints: Fingerprints) -> str:
    """Return what identifies a source's content: the hash of its local bytes, or the commit of its Hub revision.

    Raises
    ------
    SourceError
        Where the source is missing, cannot be read, or the Hub cannot tell.
    """
    place = locate(source)
    if isinstance(place, Dataset):
        return hub.commit(source)
    try:
        if place.root.exists():
            return fingerprints.of(place.root)
        names = {str(path): fingerprints.of(path) if path.exists() else "missing" for path in place.paths}
        return digest(names, n_bytes=32)
    except OSError as error:
        raise SourceError(f"cannot be read: {error}", where=f"sources.{source.name}.path", got=source.path) from None


def is_hub_id(path: str) -> bool:
    """Return whether a path has the form of a Hub id and the ending of no file."""
    return bool(_HUB_ID.fullmatch(path)) and ending(Path(path)) not in READERS


def _matched(pattern: str) -> tuple[Path, ...]:
    if not any(sign in pattern for sign in "*?["):
        return ()
    found = map(Path, glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    return tuple(path for path in sorted(found) if ending(path) in READERS and not path.is_dir())


def _exists(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except (OSError, ValueError):  # a name that no file system takes
        return False


def _is_data(path: Path) -> bool:
    return ending(path) in READERS and not any(part.startswith(".") for part in path.parts)
