"""Where a source lies and what identifies its content: a local file or folder by its bytes, a Hub dataset by its commit.

A path that exists is local, whatever it looks like; what is left of the form ``org/name`` is asked of the Hub.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from composer.errors import SourceError
from composer.fingerprint import Fingerprints
from composer.ingest import hub
from composer.ingest.files import READERS
from composer.types import Source

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class Files:
    """Local files, in the order in which they are read, and the path that names them all."""

    root: Path
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Dataset:
    """A dataset on the Hugging Face Hub."""

    repo: str


def locate(source: Source) -> Files | Dataset:
    """Return where a source lies; a folder means every supported file below it, sorted by path.

    Raises
    ------
    SourceError
        For a missing file, an ending without a reader, or a folder without supported files.

    Examples
    --------
    >>> locate(Source(name="dolly", path="databricks/databricks-dolly-15k", domain="general"))
    Dataset(repo='databricks/databricks-dolly-15k')
    """
    where, known = f"sources.{source.name}.path", ", ".join(READERS)
    root = Path(source.path)
    if not _exists(root):
        if _HUB_ID.fullmatch(source.path) and root.suffix.lower() not in READERS:
            return Dataset(source.path)
        hint = "relative paths start at the working directory; a Hub dataset is written org/name"
        raise SourceError("no such file", where=where, got=source.path, hint=hint)
    if not root.is_dir():
        if root.suffix.lower() not in READERS:
            raise SourceError("unknown file ending", where=where, expected=known, got=source.path)
        return Files(root, (root,))
    paths = tuple(p for p in sorted(root.rglob("*")) if _is_data(p.relative_to(root)) and p.is_file())
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
        return fingerprints.of(place.root)
    except OSError as error:
        raise SourceError(f"cannot be read: {error}", where=f"sources.{source.name}.path", got=source.path) from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file system takes
        return False


def _is_data(path: Path) -> bool:
    return path.suffix.lower() in READERS and not any(part.startswith(".") for part in path.parts)
