"""Removing what runs that were stopped left half built in a store."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from pathlib import Path

from composer.artifact import Store

STALE_SECONDS = 7 * 86_400.0  # long enough that a weekly run still goes on with its shards


def sweep(store: Store, *, keep: Collection[str] = (), older_than_seconds: float = STALE_SECONDS) -> list[Path]:
    """Remove what runs that were stopped left half built, and return it; ``keep`` are keys that a run will go on with.

    Nothing that a living process builds is touched: it holds the lock of its key. What was begun lately stays too, since the
    next run of its recipe goes on with its shards.
    """
    from filelock import FileLock, Timeout

    removed = []
    for partial in sorted(each for each in store.root.glob(".partial/*/*") if each.is_dir() and each.name not in keep):
        try:
            with FileLock(f"{partial}.lock", blocking=False):
                if partial.is_dir() and time.time() - _touched(partial) > older_than_seconds:
                    shutil.rmtree(partial)
                    removed.append(partial)
        except Timeout:
            continue
    return removed


def _touched(folder: Path) -> float:
    """Return when a folder, or anything in it, was last written."""
    return max((path.lstat().st_mtime for path in (folder, *folder.rglob("*"))), default=0.0)
