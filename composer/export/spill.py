"""Record batches laid on disk and read again in any order: past the page cache where the disk is fast, through it elsewhere.

What is written once and read once gains nothing from the page cache, and a cache page that the machine has to find first costs
more than the copy into it (on a virtual machine, ten times more). A slow disk is the exception: there the cache is what saves
the wait, so a spill that has measured one goes on through the cache.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple, Self

PAGE = 4096
"""Places, sizes and addresses are multiples of it, as direct access to a disk asks."""

SLOW = 400e6
"""Bytes a second below which a disk is slow."""

TRIAL = 256 << 20
"""Bytes after which a disk is known."""


class Place(NamedTuple):
    """Where a batch lies in the file, and how many bytes it has there."""

    start: int
    size: int


class Spill:
    """A file of record batches, opened anew and removed at the end; several threads may write and read at once.

    Examples
    --------
    >>> import tempfile, pyarrow as pa
    >>> with tempfile.TemporaryDirectory() as folder, Spill(Path(folder) / "spill") as spill:
    ...     places = spill.write([pa.record_batch({"x": [1, 2]}), pa.record_batch({"x": [3]})])
    ...     [batch["x"].to_pylist() for batch in spill.read(places[::-1])]
    [[3], [1, 2]]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock, self._end = Lock(), 0
        self._seconds, self._bytes = 0.0, 0

    def __enter__(self) -> Self:
        self._cached = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._direct = _opened_direct(self.path)
        self._file = self._cached if self._direct is None else self._direct
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in (self._cached, self._direct):
            if file is not None:
                os.close(file)
        self.path.unlink()

    def write(self, batches: Sequence[Any]) -> list[Place]:
        """Write batches of one schema; return where each of them lies.

        Raises
        ------
        OSError
            Where the disk does not take it.
        """
        memory = _memory(max(map(_room, batches), default=PAGE))
        return [self._append(memory, _laid(batch, memory)) for batch in batches]

    def read(self, places: Sequence[Place]) -> Iterator[Any]:
        """Yield the batches that lie there; they share one piece of memory, which lives as long as any of them.

        Raises
        ------
        OSError
            Where the file cannot be read.
        """
        import pyarrow as pa

        starts = [0, *accumulate(_whole_pages(place.size) for place in places)]
        memory = _memory(max(starts[-1], PAGE))
        for place, (start, stop) in zip(places, pairwise(starts), strict=True):
            _whole(os.preadv, self._file, memoryview(memory)[start:stop], place.start)
            yield pa.ipc.open_stream(pa.py_buffer(memory).slice(start, place.size)).read_next_batch()

    def _append(self, memory: mmap.mmap, size: int) -> Place:
        n = _whole_pages(size)
        with self._lock:
            start, self._end = self._end, self._end + n
        begun = time.perf_counter()
        try:
            _whole(os.pwritev, self._file, memoryview(memory)[:n], start)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._file = self._cached  # a disk of larger pages than ours
            _whole(os.pwritev, self._file, memoryview(memory)[:n], start)
        with self._lock:
            self._seconds += time.perf_counter() - begun
            self._bytes += n
            if self._bytes >= TRIAL and self._bytes < SLOW * self._seconds:
                self._file = self._cached
        return Place(start, size)


def _memory(size: int) -> mmap.mmap:
    """Return memory that begins on a page, of large pages where the system has them."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _opened_direct(path: Path) -> int | None:
    """Return the file opened past the page cache, or None where the system or the file system does not offer it."""
    try:
        return os.open(path, os.O_RDWR | os.O_DIRECT)
    except (AttributeError, OSError):
        return None


def _whole(move: Any, file: int, view: memoryview, start: int) -> None:
    """Write or read all of a piece of memory, in as many steps as the system takes."""
    done = 0
    while done < len(view):
        if not (moved := move(file, [view[done:]], start + done)):
            raise OSError(errno.EIO, "a spill file ends before its time")
        done += moved


def _room(batch: Any) -> int:
    """Return more bytes than a batch takes as a stream of its own."""
    import pyarrow as pa

    return _whole_pages(pa.ipc.get_record_batch_size(batch) + batch.schema.serialize().size + PAGE)


def _laid(batch: Any, memory: mmap.mmap) -> int:
    """Lay a batch into memory as a stream of its own; return how many bytes it took."""
    import pyarrow as pa

    sink = pa.FixedSizeBufferWriter(pa.py_buffer(memory))
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return int(sink.tell())


def _whole_pages(size: int) -> int:
    return -(-size // PAGE) * PAGE
