"""MosaicML's shard format MDS, written without its package, which asks for older libraries than ours.

A shard is a count, the offsets of its samples, the columns as JSON, and the samples; a sample is the sizes of its columns and
then their bytes. ``index.json`` beside the shards names them. Numbers are 32 bits, least byte first; columns go by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SHARD = 1 << 26
"""Bytes that a shard has at most, unless one sample alone has more."""

COLUMNS = {"domain": "str", "messages": "json", "source": "str", "tools": "json"}


def write_shards(samples: Iterable[Mapping[str, Any]], folder: Path, *, limit: int = SHARD) -> list[int]:
    """Write samples, each with ``domain``, ``messages``, ``source`` and ``tools``; return the rows of every shard.

    References
    ----------
    MosaicML streaming 0.13, ``MDSWriter``.

    Examples
    --------
    >>> import tempfile
    >>> row = {"domain": "law", "messages": [], "source": "s", "tools": None}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_shards([row] * 3, Path(folder), limit=320)
    [2, 1]
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "column_encodings": list(COLUMNS.values()), "column_names": list(COLUMNS), "column_sizes": [None] * len(COLUMNS),
        "compression": None, "format": "mds", "hashes": [], "size_limit": limit, "version": 2,
    }  # fmt: skip
    head = json.dumps(config).encode()
    shards, held, size = list[dict[str, Any]](), list[bytes](), 8 + len(head)
    for sample in map(_encoded, samples):
        if held and size + len(sample) + 4 > limit:
            shards.append(_shard(held, head, config, folder, len(shards)))
            held, size = [], 8 + len(head)
        held.append(sample)
        size += len(sample) + 4
    if held:
        shards.append(_shard(held, head, config, folder, len(shards)))
    (folder / "index.json").write_text(json.dumps({"shards": shards, "version": 2}), encoding="utf-8")
    return [int(shard["samples"]) for shard in shards]


def rows_of(folder: Path) -> list[int]:
    """Return the rows of every shard of a folder."""
    return [int(shard["samples"]) for shard in json.loads((folder / "index.json").read_text(encoding="utf-8"))["shards"]]


def _encoded(sample: Mapping[str, Any]) -> bytes:
    texts = [sample[name] if kind == "str" else json.dumps(sample[name]) for name, kind in COLUMNS.items()]
    parts = [text.encode() for text in texts]
    return np.array([len(part) for part in parts], dtype="<u4").tobytes() + b"".join(parts)


def _shard(samples: list[bytes], head: bytes, config: Mapping[str, Any], folder: Path, number: int) -> dict[str, Any]:
    start = 4 + 4 * (len(samples) + 1) + len(head)
    offsets = start + np.cumsum([0, *map(len, samples)])
    count = np.array([len(samples)], dtype="<u4").tobytes()
    data = count + offsets.astype("<u4").tobytes() + head + b"".join(samples)
    name = f"shard.{number:05d}.mds"
    (folder / name).write_bytes(data)
    told = {"basename": name, "bytes": len(data), "hashes": {}}
    return {**config, "raw_data": told, "samples": len(samples), "zip_data": None}
