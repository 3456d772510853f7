"""A million JSON lines of two shapes to normalised, exactly deduplicated Parquet: ours, `datasets`, a Python loop over orjson.

All sides do one work: each row becomes messages, its text in normal form (NFC, one space for every run of white space) makes a
128-bit key, of equal keys the first row stays, and messages are written as Parquet, text by text as it came: zstd-1, but for
`datasets`, which takes no codec and writes its own lighter one. Kept rows are compared byte by byte and in order. The others
normalise as data tools do, by `unicodedata` and a regular expression; the loop runs once more with `split` and `join` in place
of that, the fastest way that Python has. Ours is :func:`composer.ingest.read`, the first step of every ingest, which besides
looks for faults, numbers rows, accounts for those that go, and can go on where it was killed.

`--large` adds five million rows, for the memory alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import polars as pl
from _harness import LARGE, QUICK, Ratio, alone, race, tell

from composer.spec import rng
from composer.types import Source

N = 20_000 if QUICK else 1_000_000
N_LARGE = 5_000_000
BATCH = 10_000
WHITE = re.compile(r"\s+")


def lines(folder: Path, n: int) -> Path:
    """Write alpaca and ShareGPT rows of about 700 characters, one in eleven a copy, every third with something to normalise."""
    dice = rng(0, "benchmark", "ingest")
    letters = dice.integers(97, 123, size=(20_000, 9), dtype="uint8")
    words = [bytes(word[:length]).decode() for word, length in zip(letters, dice.integers(2, 10, 20_000), strict=True)]
    picks = dice.integers(20_000, size=(30_000, 12))
    sentences = [" ".join(words[i] for i in pick).capitalize() + "." for pick in picks]
    odd = ["café au lait", "cafe\u0301 noir", "日本語 の文", "two  spaces", "tab\there"]
    path = folder / f"rows-{n}.jsonl"
    kept: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for _ in range(0, n, BATCH):
            chosen = dice.integers(30_000, size=(BATCH, 9)).tolist()
            chance = dice.random((BATCH, 4)).tolist()
            for pick, (copy, shape, joint, extra) in zip(chosen, chance, strict=True):
                if copy < 1 / 11 and kept:
                    file.write(kept[int(copy * 11 * len(kept))])
                    continue
                said = [sentences[i] for i in pick]
                answer = ("\n" if joint < 0.2 else " ").join(said[3:])
                if extra < 0.1:
                    answer += f" {odd[int(extra * 50)]}"
                if shape < 0.5:
                    row: dict[str, Any] = {"instruction": said[0], "input": said[1] if shape < 0.15 else "", "output": answer}
                else:
                    turns = (("human", " ".join(said[:3])), ("gpt", answer))
                    row = {"conversations": [{"from": who, "value": text} for who, text in turns]}
                line = json.dumps(row, ensure_ascii=False) + "\n"
                file.write(line)
                if len(kept) < 100_000:
                    kept.append(line)
    return path


def ours(path: Path, out: Path) -> str:
    """Read the file as every ingest does."""
    from composer.ingest import read

    folder = out / f"ours-{len(list(out.iterdir()))}"
    read(Source(name="rows", path=str(path), domain="any"), folder)
    return str(folder / "rows-*.parquet")


def normal(text: str) -> str:
    """Return a text in normal form."""
    return WHITE.sub(" ", unicodedata.normalize("NFC", text)).strip()


def split_and_joined(text: str) -> str:
    """Return a text in normal form, in the fastest way."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """Return the messages of a row of either shape."""
    if row.get("conversations"):
        role = {"human": "user", "gpt": "assistant"}
        return [{"role": role[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    asked = f"{row['instruction']}\n\n{row['input']}" if row["input"] else row["instruction"]
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]


def key(talk: list[dict[str, str]], form: Callable[[str], str] = normal) -> bytes:
    """Return the 128-bit key of a conversation."""
    from xxhash import xxh3_128_digest

    return xxh3_128_digest("\x1f".join(f"{turn['role']}\x1e{form(turn['content'])}" for turn in talk).encode())


def loop(path: Path, out: Path, *, form: Callable[[str], str]) -> str:
    """Read the file line by line, as data tools written in Python do."""
    import orjson
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = out / f"loop-{len(list(out.iterdir()))}.parquet"
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("messages", pa.list_(turn))])
    seen: set[bytes] = set()
    held: list[dict[str, Any]] = []
    with path.open("rb") as file, pq.ParquetWriter(target, schema, compression="zstd", compression_level=1) as writer:
        for line in file:
            talk = messages(orjson.loads(line))
            if (found := key(talk, form)) in seen:
                continue
            seen.add(found)
            held.append({"messages": talk})
            if len(held) == BATCH:
                writer.write_table(pa.Table.from_pylist(held, schema=schema))
                held = []
        writer.write_table(pa.Table.from_pylist(held, schema=schema))
    return str(target)


def with_datasets(path: Path, out: Path) -> str:
    """Load, map, filter and write with Hugging Face datasets."""
    import datasets

    datasets.disable_progress_bars()
    target = out / f"datasets-{len(list(out.iterdir()))}.parquet"
    with tempfile.TemporaryDirectory(dir=out.parent) as cache_dir:
        rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache_dir)

        def convert(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            talks = [messages(dict(zip(batch, row, strict=True))) for row in zip(*batch.values(), strict=True)]
            return {"messages": talks, "key": [key(talk) for talk in talks]}

        mapped = rows.map(convert, batched=True, remove_columns=rows.column_names)
        seen: set[bytes] = set()

        def is_first(found: bytes) -> bool:
            known = found in seen
            seen.add(found)
            return not known

        kept = mapped.filter(is_first, input_columns="key").remove_columns("key")
        kept.to_parquet(target)
    return str(target)


@cache
def digest(pattern: str) -> str:
    """Return a hash of all kept rows in order, byte by byte."""
    text = pl.col("messages").list.eval(
        pl.concat_str(pl.element().struct.field("role"), pl.lit("\x1e"), pl.element().struct.field("content"))
    )
    found = hashlib.sha256()
    for rows in pl.scan_parquet(pattern).select(text.list.join("\x1f")).collect_batches(chunk_size=50_000, maintain_order=True):
        found.update("\x1d".join(rows.to_series().to_list()).encode() + b"\x1c")
    return found.hexdigest()


def main() -> None:
    """Race the sides, then watch the memory of ours."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary), Path(temporary) / "out"
        out.mkdir()
        path = lines(folder, N)
        print(f"{N} rows, {path.stat().st_size / N:.0f} bytes each", file=sys.stderr)
        sides = {
            "ours": partial(ours, path, out),
            "datasets": partial(with_datasets, path, out),
            "orjson loop": partial(loop, path, out, form=normal),
            "orjson loop, split and join": partial(loop, path, out, form=split_and_joined),
        }
        heavy = ("pyarrow.json", "pyarrow.compute", "pyarrow.parquet", "xxhash", "composer.ingest")
        imports = {"ours": heavy, "datasets": ("datasets", "xxhash")}
        imports["orjson loop"] = imports["orjson loop, split and join"] = ("orjson", "pyarrow.parquet", "xxhash")
        found = race("ingest", sides, same=lambda a, b: digest(a) == digest(b), repeats=3, imports=imports)
        ratios = [
            found.ratio("cpu over datasets", "ours", "datasets", target=0.35),
            found.ratio("cpu over an orjson loop", "ours", "orjson loop", target=0.4),
            found.ratio("cpu over an orjson loop with split and join", "ours", "orjson loop, split and join", target=0.4),
            found.ratio("wall over datasets", "ours", "datasets", of="wall", target=0.2),
            found.worst("peak MB", "ours", target=500),
        ]
        sizes = {
            "rows": N,
            "bytes": path.stat().st_size,
            "kept": pl.scan_parquet(ours_of(out)).select(pl.len()).collect().item(),
        }
        if LARGE:
            path.unlink()
            cost, _ = alone(partial(ours, lines(folder, N_LARGE), out), imports=heavy)
            print(f"{N_LARGE} rows: {cost}", file=sys.stderr)
            ratios.append(Ratio(f"peak MB at {N_LARGE:,} rows", cost.peak, 750, "lower", 1))
        tell("ingest", ratios, equal=found.equal, sizes=sizes, costs={"ingest": found.medians()})


def ours_of(out: Path) -> str:
    """Return the files of the first run of ours."""
    return str(min(out.glob("ours-*")) / "rows-*.parquet")


if __name__ == "__main__":
    main()
