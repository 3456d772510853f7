"""The stages that embed: every instruction, or every row. They are as all stages (:mod:`flows.stages`).

The texts are cut into the blocks of the embedder, whose vectors are files: a stopped run goes on with those that are there, and
others may make them (:mod:`flows.spread`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from composer import tables
from composer.artifact import Artifact, shard
from composer.spec import digest, plain
from flows.inputs import as_text, instructions_of, samples_of
from flows.spread import Spread

Stats = Mapping[str, Any]
TRAINED = ("target", "replay")
BLOCKS = ".blocks"


def embed(
    folder: Path, *, embedder: Any, samples: Artifact, past: Sequence[Artifact] = (), spread: Spread | None = None
) -> Stats:  # fmt: skip
    """Embed every unique instruction once."""
    texts = instructions_of(samples)
    known = {} if embedder.fitted else _vectors(texts, [a for a in past if a.manifest.spec["embedder"] == plain(embedder)])
    vectors = _encoded(folder, embedder, texts["text"].to_list(), known, spread)
    frame = texts.select("instruction_id").with_columns(pl.Series("vector", vectors).cast(pl.List(pl.Float32)))
    tables.write(frame, folder / "embeddings.parquet", tables.EMBEDDING)
    return {"instructions": len(texts), "dims": int(vectors.shape[1])}


def embed_rows(folder: Path, *, embedder: Any, samples: Artifact, spread: Spread | None = None) -> Stats:
    """Embed every sample: its messages, one below the other."""
    rows = samples_of(samples, *TRAINED).select("sample_id", text=as_text("messages"))
    vectors = _encoded(folder, embedder, rows["text"].to_list(), {}, spread)
    frame = rows.select("sample_id").with_columns(pl.Series("vector", vectors).cast(pl.List(pl.Float32)))
    tables.write(frame, folder / "sample_embeddings.parquet", tables.SAMPLE_EMBEDDING)
    return {"samples": len(rows), "dims": int(vectors.shape[1])}


def shards(folder: Path, names: Sequence[str], *, embedder: Any, samples: Artifact) -> None:  # noqa: ARG001
    """Embed some blocks, whose texts lie beside where their vectors go."""
    left = [name for name in names if not (folder / BLOCKS / f"{name}.npy").exists()]
    texts = (json.loads((folder / BLOCKS / f"{name}.json").read_text(encoding="utf-8")) for name in left)
    for name, rows in zip(left, embedder.encode_each(texts), strict=True):
        _keep(folder / BLOCKS, name, rows)


def _encoded(
    folder: Path, embedder: Any, texts: list[str], known: Mapping[str, np.ndarray], spread: Spread | None
) -> np.ndarray:
    """Return the rows of texts: those of new ones are made block by block."""
    blocks = [] if embedder.fitted else embedder.blocks([text for text in texts if text not in known])
    if len(blocks) < 2:
        rows: np.ndarray = embedder.encode_new(texts, known=known)
        return rows
    names = [
        f"{i:05}-{digest(block)}" for i, block in enumerate(blocks)
    ]  # another block has another name, whenever it was made
    (folder / BLOCKS).mkdir(exist_ok=True)
    left = [i for i, name in enumerate(names) if not (folder / BLOCKS / f"{name}.npy").exists()]
    if spread is None:
        for i, rows in zip(left, embedder.encode_each(blocks[i] for i in left), strict=True) if left else ():
            _keep(folder / BLOCKS, names[i], rows)
    elif left:
        for i in left:
            (folder / BLOCKS / f"{names[i]}.json").write_text(json.dumps(blocks[i]), encoding="utf-8")
        spread([names[i] for i in left])
    made: dict[str, np.ndarray] = {}
    for name, block in zip(names, blocks, strict=True):
        made |= dict(zip(block, np.load(folder / BLOCKS / f"{name}.npy", allow_pickle=False), strict=True))
    found: np.ndarray = embedder.encode_new(texts, known={**known, **made})
    return found


def _keep(folder: Path, name: str, rows: np.ndarray) -> None:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, rows, allow_pickle=False)

    shard(folder, f"{name}.npy", write)


def _vectors(texts: pl.DataFrame, past: Sequence[Artifact]) -> dict[str, np.ndarray]:
    """Return the vectors of texts that an earlier run embedded, by text."""
    known: dict[str, np.ndarray] = {}
    for artifact in past:
        found = texts.join(tables.read(artifact.file("embeddings.parquet"), tables.EMBEDDING), on="instruction_id")
        known |= dict(zip(found["text"].to_list(), found["vector"].to_list(), strict=True))
    return known
