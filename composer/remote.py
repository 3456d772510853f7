"""Artifacts on a shared file system or in object storage, by fsspec: ``s3://``, ``gs://``, ``hf://``, ``file://`` and others.

Object storage has no rename, so nothing here needs one. The files of an artifact lie in a folder named by their content,
``<url>/<kind>/<key>/<content>/``, and ``<url>/<kind>/<key>/manifest.json`` is written last: one object, there wholly or not at
all, that says by its hashes which folder is meant. Who writes the same artifact at the same time writes the same objects, or
other ones beside them, and a reader never sees parts of two. What is read is checked against the manifest's hashes.
"""

from __future__ import annotations

import json
import os
import posixpath
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from composer.errors import SpecError, StoreError
from composer.fingerprint import write_json
from composer.manifest import MANIFEST, Manifest, parsed
from composer.progress import bar
from composer.secrets import without_secrets
from composer.spec import digest, plain

DIRECTORIES = {"file", "memory", "sftp", "smb", "hdfs", "webhdfs"}  # elsewhere a makedirs would make a missing bucket
BLOCK = 8 << 20  # bytes


def is_url(place: str) -> bool:
    """Return whether a place is the URL of a file system rather than a path.

    Examples
    --------
    >>> is_url("s3://bucket/store"), is_url("/data/store"), is_url("store")
    (True, False, False)
    """
    return "://" in place


def cache_of(remote: Remote) -> Path:
    """Return the folder of this machine in which a URL's artifacts are built and kept: below ``SFT_COMPOSER_CACHE``."""
    root = Path(os.environ.get("SFT_COMPOSER_CACHE") or "~/.cache/sft-composer").expanduser()
    return root / digest(remote.url)


class Remote:
    """The artifacts below one URL.

    Credentials and endpoints are taken from the environment, or from wherever the file system's own library looks for them.

    Raises
    ------
    SpecError
        For a URL that bears a name, a password or a query, which logs and manifests would show.

    Examples
    --------
    >>> Remote("s3://name:secret@bucket/store")  # pragma: allowlist secret
    Traceback (most recent call last):
    composer.errors.SpecError: store: a URL with a name or password in it; expected credentials in the environment
    """

    def __init__(self, url: str) -> None:
        if "?" in url or without_secrets(url) != url:
            raise SpecError("a URL with a name or password in it", where="store", expected="credentials in the environment")
        self.url = url.rstrip("/")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        try:
            system, base = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            hint = "for s3:// that is: pip install 'sft-composer[s3]'"
            raise StoreError(f"cannot open: {error}", where=self.url, hint=hint) from None
        return system, base.rstrip("/")

    def manifest(self, kind: str, key: str) -> Manifest | None:
        """Return the manifest of an artifact, or nothing where it is not complete."""
        system, base = self._opened
        with self._told():
            try:
                text = system.cat_file(f"{base}/{kind}/{key}/{MANIFEST}")
            except FileNotFoundError:
                return None
        return parsed(text, kind, key, where=f"{self.url}/{kind}/{key}")

    def every(self, kind: str | None = None) -> list[tuple[str, str]]:
        """Return kind and key of all complete artifacts."""
        system, base = self._opened
        with self._told():
            system.invalidate_cache()
            found = system.glob(f"{base}/{kind or '*'}/*/{MANIFEST}")
        parts = [path.split("/")[-3:-1] for path in sorted(found)]
        return [(kind, key) for kind, key in parts if not kind.startswith(".")]

    def push(self, folder: Path, manifest: Manifest) -> None:
        """Copy an artifact's folder to the URL, its manifest last; one that is there is left as it is."""
        if self.manifest(manifest.kind, manifest.key) is not None:
            return
        (system, base), there = self._opened, self._place(manifest)
        label = f"copy {manifest.kind}/{manifest.key} to the store"
        with self._told(), bar(label, total=sum(each.n_bytes for each in manifest.files.values()), unit="B") as shown:
            for name, record in manifest.files.items():
                if DIRECTORIES.intersection([system.protocol] if isinstance(system.protocol, str) else system.protocol):
                    system.makedirs(posixpath.dirname(f"{there}/{name}"), exist_ok=True)
                system.put_file(str(folder / name), f"{there}/{name}")
                shown.advance(record.n_bytes)
            text = json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False, indent=2)
            system.pipe_file(f"{base}/{manifest.kind}/{manifest.key}/{MANIFEST}", text.encode())

    def fetch(self, manifest: Manifest, folder: Path) -> None:
        """Copy an artifact into an empty folder, its manifest last.

        Raises
        ------
        StoreError
            Where a file is not there, or is not what the manifest says.
        """
        label = f"fetch {manifest.kind}/{manifest.key} from the store"
        shutil.rmtree(folder, ignore_errors=True)
        with bar(label, total=sum(each.n_bytes for each in manifest.files.values()), unit="B") as shown:
            for name in manifest.files:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:

                    def keep(block: bytes, file: Any = file) -> None:
                        file.write(block)
                        shown.advance(len(block))

                    if not self._is_whole(manifest, name, keep):
                        where = f"{self.url}/{manifest.kind}/{manifest.key}"
                        hint = "remove it there, and run again where it was made"
                        raise StoreError("damaged in the store", where=where, got=name, hint=hint)
        write_json(folder / MANIFEST, manifest.model_dump(mode="json"))

    def damaged(self, manifest: Manifest) -> list[str]:
        """Return the names of files at the URL whose content is not what the manifest says."""
        return [name for name in manifest.files if not self._is_whole(manifest, name, lambda _: None)]

    def _is_whole(self, manifest: Manifest, name: str, take: Callable[[bytes], None]) -> bool:
        """Read a file through, block by block, and return whether it has the manifest's hash."""
        seen, record = sha256(), manifest.files[name]
        with self._told():
            try:
                with self._opened[0].open(f"{self._place(manifest)}/{name}", "rb", block_size=BLOCK) as file:
                    while block := file.read(BLOCK):
                        seen.update(block)
                        take(block)
            except FileNotFoundError:
                return False
        return seen.hexdigest() == record.sha256

    def _place(self, manifest: Manifest) -> str:
        """Return where the files lie: a folder named by what they are."""
        content = digest(plain({name: record.sha256 for name, record in manifest.files.items()}))
        return f"{self._opened[1]}/{manifest.kind}/{manifest.key}/{content}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say of every fault of a file system where it was; what was complete stays complete."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            hint = "check the URL, the credentials in the environment and the connection, and run again"
            raise StoreError(f"the store does not answer: {what}", where=self.url, hint=hint) from error
