"""Files written, read and read back, with the laws of the counts checked on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from composer.ingest import read, reading
from composer.types import Source

Stats = dict[str, Any]
Fate = tuple[str, str, str | None]  # kept, repaired or dropped; the words; what the last turn says


def source(path: object, **fields: Any) -> Source:
    return Source(**{"name": "s", "path": str(path), "domain": "d", **fields})


def documents(path: Path, texts: list[str]) -> Path:
    """Write a line of JSON per text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def fresh(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def parts(folder: Path, word: str) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(f"{word}-*.parquet")) for row in pl.read_parquet(path).iter_rows(named=True)]


def outcome(made: Source, folder: Path) -> tuple[dict[int, Fate], dict[str, Any]]:
    """Read a source and return what became of each row, having checked the laws of the counts."""
    folder.mkdir(parents=True)
    stats = read(made, folder)
    rows, dropped = parts(folder, "rows"), parts(folder, "dropped")
    fates: dict[int, Fate] = {}
    for row in rows:
        word = "repaired" if row["repairs"] else "kept"
        fates[row["row"]] = (word, "+".join(sorted(row["repairs"])), row["messages"][-1]["content"])
    fates |= {row["row"]: ("dropped", row["reason"], None) for row in dropped}
    assert len(fates) == len(rows) + len(dropped) == stats["seen"], "a row has two fates, or none"
    assert stats["seen"] == stats["kept"] + stats["repaired"] + sum(stats["dropped"].values())
    assert stats["samples"] == stats["kept"] + stats["repaired"] == len(rows) == sum(stats["shapes"].values())
    assert [stats[word] for word in ("kept", "repaired")] == [
        sum(fate[0] == word for fate in fates.values()) for word in ("kept", "repaired")
    ]
    tally: dict[str, int] = {}
    for row in dropped:
        tally[row["reason"]] = tally.get(row["reason"], 0) + 1
    assert stats["dropped"] == tally
    return fates, stats


@contextmanager
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as made:
        yield Path(made)


def frames(where: Path, word: str) -> pl.DataFrame:
    """Return all parts of a kind as one table, whichever way the rows were cut into parts."""
    found = sorted(where.glob(f"{word}-*.parquet"))
    return pl.concat([pl.read_parquet(path) for path in found]) if found else pl.DataFrame()


def told(name: str, content: bytes, *, columnar: bool = True, **fields: Any) -> tuple[Stats, pl.DataFrame, pl.DataFrame]:
    """Read one file and return what was counted, kept and dropped, having checked the law of the counts."""
    with folder() as here:
        (here / name).write_bytes(content)
        (here / "out").mkdir()
        source = Source(name="s", path=str(here / name), domain="d", **fields)
        stats = reading.read(source, here / "out", columnar=columnar)
        rows, dropped = frames(here / "out", "rows"), frames(here / "out", "dropped")
    assert stats["seen"] == stats["kept"] + stats["repaired"] + sum(stats["dropped"].values())
    assert (stats["samples"], sum(stats["dropped"].values())) == (len(rows), len(dropped))
    numbers = sorted([*(rows["row"] if len(rows) else []), *(dropped["row"] if len(dropped) else [])])
    assert len(set(numbers)) == stats["seen"]
    assert numbers == list(range(stats["seen"])) or "where" in fields  # a filtered row has a number and is not seen
    return stats, rows, dropped
