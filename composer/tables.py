"""The columns of every table on disk, and the one check that a frame has them.

``messages`` is a list of (role, content); ids are hex digits of blake2b over canonical content.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from composer.errors import StoreError

MESSAGE = pl.Struct({"role": pl.String, "content": pl.String})

Schema = Mapping[str, pl.DataType | type[pl.DataType]]

SAMPLE: Schema = {
    "sample_id": pl.String,  # 16 hex digits of the messages
    "source": pl.String,
    "domain": pl.String,
    "role": pl.String,  # target, replay, validation or reference
    "instruction_id": pl.String,  # 16 hex digits of the instruction's text
    "messages": pl.List(MESSAGE),
    "n_tokens": pl.UInt32,
    "n_loss_tokens": pl.UInt32,
    "license": pl.String,
    "source_revision": pl.String,  # a Hub source's commit, or the content hash of a local one
    "extras": pl.String,  # JSON of what is more than role and content (composer.conversation); null for most rows
}
INSTRUCTION: Schema = {"instruction_id": pl.String, "text": pl.String}
DROPPED: Schema = {"source": pl.String, "row": pl.UInt64, "reason": pl.String, "text": pl.String}
EMBEDDING: Schema = {"instruction_id": pl.String, "vector": pl.List(pl.Float32)}
TAGS: Schema = {"instruction_id": pl.String, "tags": pl.List(pl.String)}
SAMPLE_EMBEDDING: Schema = {"sample_id": pl.String, "vector": pl.List(pl.Float32)}
ANSWER: Schema = {"sample_id": pl.String, "answer": pl.UInt32}  # equal answers have equal numbers
SCORE: Schema = {"sample_id": pl.String, "score": pl.String, "value": pl.Float64}
INSTRUCTION_SCORE: Schema = {
    "instruction_id": pl.String,
    "phase": pl.UInt32,  # null where the value is that of every phase
    "score": pl.String,
    "value": pl.Float64,
}
INSTRUCTION_COUNT: Schema = {"instruction_id": pl.String, "n": pl.UInt32}  # how many rows have the instruction
CLUSTERS: Schema = {
    "instruction_id": pl.String,
    "cluster": pl.Int32,  # -1 is noise: no cluster
    "x": pl.Float64,  # where the instruction lies on a map of them all
    "y": pl.Float64,
}
TRANSPORT_PLAN: Schema = {  # what of an earlier domain's mass of one its instructions give to which new ones
    "phase": pl.UInt32,
    "domain": pl.String,
    "instruction_id": pl.String,
    "by": pl.String,
    "mass": pl.Float64,
}
COMPLETION: Schema = {"sample": pl.UInt32, "text": pl.String, "n_tokens": pl.UInt32, "finished": pl.Boolean}
COMPOSITION: Schema = {
    "position": pl.UInt64,
    "rank": pl.UInt32,  # place of the row in its selector's order
    "row": pl.UInt32,  # place of the sample in the pool's table, all roles counted
    "sample_id": pl.String,
    "source": pl.String,
    "domain": pl.String,
    "phase": pl.UInt32,
    "repeat": pl.UInt32,  # 0 on the first pass over the domain
    "is_replay": pl.Boolean,
    "n_tokens": pl.UInt32,
    "n_loss_tokens": pl.UInt32,
}
TRACE: Schema = {
    "step": pl.UInt32,
    "position": pl.UInt64,
    "domain": pl.String,
    "weight": pl.Float64,
    "loss_nats": pl.Float64,
    "n_tokens": pl.UInt64,
}
WEIGHTS: Schema = {
    "step": pl.UInt32,  # the optimiser steps that were taken
    "position": pl.UInt64,  # the samples that were
    "domain": pl.String,
    "weight": pl.Float64,  # from here on
    "loss_nats": pl.Float64,  # token mean of the held-out rows
    "n_loss_tokens": pl.UInt64,
    "reference_nats": pl.Float64,  # null where the law has none
    "state": pl.String,
    "told": pl.List(pl.Struct({"name": pl.String, "value": pl.Float64})),  # what the law made of the losses
}
ROUTING: Schema = {
    "map": pl.String,  # path of the linear map that has the experts
    "domain": pl.String,
    "expert": pl.UInt32,
    "type": pl.String,  # knowledge or task
    "share": pl.Float64,  # mean over the tokens that training read; they sum to 1 over the experts
    "n_tokens": pl.UInt64,
}
ROUTES: Schema = {
    "domain": pl.String,
    "expert": pl.String,  # of a Mixture-of-LoRAs, or (base)
    "prompts": pl.UInt32,  # of the domain that were read
    "share": pl.Float64,  # of its prompts that go there, mean over the blocks; they sum to 1 over the experts
    "probability": pl.Float64,  # that the routers give it, mean over blocks and prompts; null for the base
}
EVALUATION: Schema = {
    "domain": pl.String,
    "sample_id": pl.String,
    "loss_nats": pl.Float64,  # sum over the sample's loss tokens
    "n_loss_tokens": pl.UInt32,
    "exact": pl.Boolean,
}


def check(frame: pl.DataFrame, schema: Schema, *, where: str) -> pl.DataFrame:
    """Return the frame with exactly the schema's columns, in its order.

    Raises
    ------
    StoreError
        Where a column is missing, unknown or of another type.
    """
    wanted = pl.Schema(schema)
    if missing := [name for name in wanted if name not in frame.columns]:
        raise StoreError("missing columns", where=where, expected=", ".join(wanted), got=f"no {', '.join(missing)}")
    if unknown := [name for name in frame.columns if name not in wanted]:
        raise StoreError("unknown columns", where=where, expected=", ".join(wanted), got=", ".join(unknown))
    for name, dtype in wanted.items():
        if frame.schema[name] != dtype:
            raise StoreError(f"column {name}", where=where, expected=str(dtype), got=str(frame.schema[name]))
    return frame.select(list(wanted))


def write(frame: pl.DataFrame, path: Path, schema: Schema) -> None:
    """Check a frame and write it as zstd Parquet, byte for byte the same for the same frame."""
    check(frame, schema, where=path.name).write_parquet(path, compression="zstd", compression_level=3)


def read(path: Path, schema: Schema) -> pl.DataFrame:
    """Read a table and check it against its schema."""
    return check(pl.read_parquet(path), schema, where=str(path))
