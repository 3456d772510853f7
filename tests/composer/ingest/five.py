"""Five rows of five shapes, written, ingested and read back, with the laws of the counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from composer import tables
from composer.ingest import ingest
from tests.composer.ingest.reading_back import source

FILES = ("samples.parquet", "instructions.parquet", "dropped.parquet")
FIVE = [
    {"messages": [{"role": "user", "content": "The river?"}, {"role": "assistant", "content": "It flows."}]},
    {"conversations": [{"from": "human", "value": "The court?"}, {"from": "gpt", "value": "It rules."}]},
    {"instruction": "Divide.", "input": "a cell", "output": "Two cells."},
    {"prompt": "The bond?", "completion": "It matures."},
    {"text": "A plain document on leases."},
]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(tokenizer: Any, path: object, folder: Path, *, max_length: int = 64, **fields: Any) -> dict[str, Any]:
    return ingest(source(path, **fields), folder, tokenizer=tokenizer, max_length=max_length)


def read(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    schemas = (tables.SAMPLE, tables.INSTRUCTION, tables.DROPPED)
    made = [tables.read(folder / name, schema) for name, schema in zip(FILES, schemas, strict=True)]
    return made[0], made[1], made[2]


def check_laws(stats: dict[str, Any], folder: Path) -> None:
    kept, instructions, dropped = read(folder)
    assert stats["seen"] == stats["kept"] + stats["repaired"] + sum(stats["dropped"].values())
    assert stats["samples"] == stats["kept"] + stats["repaired"]
    assert stats["samples"] == len(kept) == sum(stats["shapes"].values()) == sum(stats["licenses"].values())
    assert stats["dropped"] == dict(sorted(dropped.group_by("reason").len().iter_rows()))
    assert (stats["n_tokens"], stats["n_loss_tokens"]) == (kept["n_tokens"].sum(), kept["n_loss_tokens"].sum())
    assert kept["sample_id"].is_unique().all()
    assert instructions["instruction_id"].is_unique().all()
    assert set(instructions["instruction_id"]) == set(kept["instruction_id"])
    assert all(talk[-1]["role"] == "assistant" for talk in kept["messages"])
    assert pl.read_parquet(folder / "keys.parquet")["key"].bin.size().to_list() == [16] * len(kept)
    assert sorted(path.name for path in folder.iterdir()) == sorted((*FILES, "keys.parquet"))
