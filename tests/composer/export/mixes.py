"""Samples and compositions laid out as tables, and what every exporter wrote of them, read back."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer import tables
from composer.conversation import extras_of, whole
from composer.export import EXPORTERS, Trainer
from composer.spec import rng

NASTY = 'tab\t, "quotes", \\back, new\nline, <b>, é 漢 🙂, \u2028 and \x00'
ROOT = Path(__file__).parents[3]


HELD, SPILLED = 1.0, 1e-9
"""Bounds of memory in GB: all content at once, and next to nothing."""

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"é": {}}}}}]
CALLED = extras_of({1: {"tool_calls": [{"name": "add", "arguments": {"a": 1}}], "thinking": "hm"}}, TOOLS)
"""Extras of a row that calls a tool after some thought."""


def samples(n: int = 12, *, domains: Sequence[str] = ("law", "code"), text: str = NASTY) -> pl.DataFrame:
    """Return n samples dealt to the domains in turn; every fifth calls a tool."""
    return pl.DataFrame(
        {
            "sample_id": [f"{i:016x}" for i in range(n)],
            "source": [f"{domains[i % len(domains)]}-rows" for i in range(n)],
            "domain": [domains[i % len(domains)] for i in range(n)],
            "role": ["target"] * n,
            "instruction_id": [f"{i:016x}" for i in range(n)],
            "messages": [
                [{"role": "user", "content": f"{i} {text}"}, {"role": "assistant", "content": f"answer {i}"}] for i in range(n)
            ],
            "n_tokens": [10 + i for i in range(n)],
            "n_loss_tokens": [3 + i for i in range(n)],
            "license": ["MIT" if i % 2 else "CC-BY-4.0" for i in range(n)],
            "source_revision": [f"rev-{i % 2}" for i in range(n)],
            "extras": [CALLED if i % 5 == 3 else None for i in range(n)],
        },
        schema=pl.Schema(tables.SAMPLE),
    )


def composition(pool: pl.DataFrame, order: Sequence[int], *, phase: int = 0) -> pl.DataFrame:
    """Return a composition that takes the pool's rows in the given order; a row taken again counts its repeats."""
    taken: dict[int, int] = {}
    repeats = [taken.__setitem__(i, taken.get(i, -1) + 1) or taken[i] for i in order]
    picked = pool[list(order)]
    return picked.select(
        pl.int_range(pl.len(), dtype=pl.UInt64).alias("position"),
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("rank"),
        pl.Series("row", list(order), dtype=pl.UInt32),
        "sample_id", "source", "domain",
        pl.lit(phase, dtype=pl.UInt32).alias("phase"),
        pl.Series("repeat", repeats, dtype=pl.UInt32),
        (pl.col("domain") == "code").alias("is_replay"),
        "n_tokens", "n_loss_tokens",
    )  # fmt: skip


ORDER = [5, 0, 3, 3, 11, 8, 2, 0, 7]


def lay(folder: Path, pool: pl.DataFrame, rows: pl.DataFrame, *, row_group: int | None = None) -> tuple[Path, Path]:
    """Write a composition and its samples as tables and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / "composition.parquet", row_group_size=row_group)
    pool.write_parquet(folder / "samples.parquet", row_group_size=row_group)
    return folder / "composition.parquet", folder / "samples.parquet"


def read_parquet(folder: Path) -> list[Any]:
    """Return the whole conversations of the mix, shard after shard."""
    files = sorted((folder / "mix").glob("*.parquet"))
    rows = (row for file in files for row in pl.read_parquet(file).select("messages", "extras").iter_rows())
    return [whole(messages, extras) for messages, extras in rows]


def read_chat(folder: Path) -> list[Any]:
    """Return the whole conversations of every line."""
    lines = (folder / "chat" / "train.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    return [whole_of(json.loads(line)) for line in lines]


def whole_of(row: dict[str, Any]) -> Any:
    """Return a line as a whole conversation."""
    assert set(row) - {"tools"} == {"messages", "domain", "source"}
    found = whole([], None)
    return type(found)(row["messages"], row.get("tools"))


def planned(pool: pl.DataFrame, order: Sequence[int]) -> list[Any]:
    """Return the whole conversations of the pool's rows in an order."""
    return [whole(messages, extras) for messages, extras in pool[list(order)].select("messages", "extras").iter_rows()]


def read_shards(folder: Path) -> list[dict[str, Any]]:
    """Return the samples of MDS shards, read as the format says and not as they were written."""
    found: list[dict[str, Any]] = []
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        (n,) = struct.unpack_from("<I", data)
        assert n == shard["samples"]
        at = struct.unpack_from(f"<{n + 1}I", data, 4)
        told = json.loads(data[8 + 4 * n : at[0]])
        assert told == {key: shard[key] for key in told}
        k = len(told["column_names"])
        for start in at[:-1]:
            place, sample = start + 4 * k, {}
            for name, kind, size in zip(
                told["column_names"], told["column_encodings"], struct.unpack_from(f"<{k}I", data, start), strict=True
            ):
                text = data[place : place + size].decode()
                sample[name], place = (json.loads(text) if kind == "json" else text), place + size
            found.append(sample)
    return found


def read_file(path: Path) -> list[dict[str, Any]]:
    """Return the rows of one file of an export for a trainer."""
    if path.is_dir():
        return [{key: value for key, value in row.items() if value is not None} for row in read_shards(path)]
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def files_of(exporter: Trainer, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of every file of an export for a trainer, by path."""
    home = folder / exporter.home
    at = [home / "train", home / "train.jsonl", *sorted((home / "data").glob("*"))]
    return {path.relative_to(home).as_posix(): read_file(path) for path in at if path.exists()}


def read_drawn(exporter: Trainer, folder: Path) -> list[dict[str, Any]]:
    """Return the rows that a trainer draws, by its own rule on its own config, in their order."""
    files = files_of(exporter, folder)
    drawn = exporter.drawn(folder / exporter.home, {path: len(rows) for path, rows in files.items()})
    rows = [row for path in drawn.files for row in files[path]]
    return [rows[i] for i in drawn.numbers]


def reader(name: str) -> Callable[[Path], list[Any]]:
    """Return what reads an export for a trainer back as whole conversations."""
    exporter = EXPORTERS[name]()
    assert isinstance(exporter, Trainer)
    return lambda folder: [whole_of(row) for row in read_drawn(exporter, folder)]


TRAINERS = [name for name, exporter in EXPORTERS.items() if issubclass(exporter, Trainer)]
WEIGHING = [name for name in TRAINERS if name != "axolotl"]
READ = {"parquet": read_parquet, "chat_jsonl": read_chat, **{name: reader(name) for name in TRAINERS}}
every = pytest.mark.parametrize("name", EXPORTERS)
both_ways = pytest.mark.parametrize("memory_gb", [HELD, SPILLED], ids=["held", "spilled"])


def many(seed: int, *, n: int = 3000) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return samples of very unequal length and a long composition of them in random order with repeats."""
    dice = rng(seed, "export")
    pool = samples(n, domains=("law", "code", "law", "news"), text="x")
    long = [str(i) + "wörd " * int(k) for i, k in enumerate(dice.geometric(0.02, n))]
    talks = [[{"role": "user", "content": text}, {"role": "assistant", "content": text[:9]}] for text in long]
    pool = pool.with_columns(pl.Series("messages", talks, dtype=pl.List(tables.MESSAGE)))
    return pool, composition(pool, dice.integers(0, n, 2 * n).tolist())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
