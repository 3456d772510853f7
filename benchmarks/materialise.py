"""A composition made into Parquet: against polars copying the same bytes, and against ``datasets``.

Eight sources of very unequal size, nested messages of about 600 characters, weights, at most three passes over a source, a
global shuffle; zstd 3 and one size of row groups, but for the codec of ``datasets``, which is its own and the lighter one. It
gets the chosen rows of every source as Arrow files that are mapped, not read (made beforehand and not timed), and has fewer
columns to write. Our rows must be those of the plan in its order, each with the content that belongs to its id; those of
``datasets`` the same rows in any order.

``--large`` adds 5 and 10 million rows against the copy, with a bound on memory.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from _harness import LARGE, QUICK, Race, Ratio, alone, race, tell

from composer import tables
from composer.compose import compose
from composer.export.parquet import Parquet
from composer.export.rows import GROUP
from composer.select import SELECTORS
from composer.spec import rng
from composer.types import Mixture, Phase, Schedule

SIZES = (1, 1, 2, 2, 4, 4, 8, 8)  # of the sources, in thirtieths of the pool
WEIGHTS = (0.05, 0.13, 0.12, 0.14, 0.14, 0.14, 0.14, 0.14)  # of which the second asks for four passes
DOMAINS = tuple(f"source-{i}" for i in range(len(SIZES)))
WRITE = {"compression": "zstd", "compression_level": 3}
LIGHT = ("sample_id", "source", "domain", "role", "instruction_id", "n_tokens", "n_loss_tokens")


def prose(n_words: int = 6_000_000) -> str:
    """Return text of random words, few of them frequent, that compresses as prose does."""
    dice = rng(0, "benchmark", "words")
    words = ["".join(chr(97 + int(c)) for c in dice.integers(0, 26, dice.integers(2, 10))) for _ in range(20_000)]
    weights = 1 / np.arange(1, len(words) + 1)
    return " ".join(np.array(words)[dice.choice(len(words), size=n_words, p=weights / weights.sum())])


def pool(n: int) -> Iterator[pl.DataFrame]:
    """Yield a pool of n samples: the question begins with the sample's id, ``n_tokens`` is the length of both texts."""
    text, dice = prose(), rng(0, "benchmark", "pool")
    ends = np.cumsum(SIZES) * n // sum(SIZES)
    for start in range(0, n, GROUP):
        m = min(GROUP, n - start)
        ids = [f"{start + i:016x}" for i in range(m)]
        begin, long = dice.integers(0, len(text) - 1000, (m, 2)).tolist(), dice.integers((50, 200), (300, 700), (m, 2)).tolist()
        asked = [f"{i} {text[a : a + k]}" for i, (a, _), (k, _) in zip(ids, begin, long, strict=True)]
        said = [text[b : b + k] for (_, b), (_, k) in zip(begin, long, strict=True)]
        name = [DOMAINS[i] for i in np.searchsorted(ends, np.arange(start, start + m), side="right")]
        turns = [[text for pair in zip(asked, said, strict=True) for text in pair], ["user", "assistant"] * m]
        messages = pa.StructArray.from_arrays([pa.array(turns[1]), pa.array(turns[0])], names=["role", "content"])
        columns = {
            "sample_id": ids, "source": name, "domain": name, "role": ["target"] * m, "instruction_id": ids,
            "messages": pl.Series(pa.ListArray.from_arrays(pa.array(np.arange(m + 1, dtype=np.int32) * 2), messages)),
            "n_tokens": [len(a) + len(b) for a, b in zip(asked, said, strict=True)], "n_loss_tokens": [len(b) for b in said],
            "license": ["mit"] * m, "source_revision": ["0123456789abcdef"] * m, "extras": [None] * m,
        }  # fmt: skip
        yield pl.DataFrame(columns, schema=pl.Schema(tables.SAMPLE))


def prepare(folder: Path, n: int) -> float:
    """Write the pool and a composition of n rows from it; return how many seconds the composition took."""
    arrow = pl.DataFrame(schema=pl.Schema(tables.SAMPLE)).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    with pq.ParquetWriter(folder / "samples.parquet", arrow, **WRITE) as writer:
        for frame in pool(n):
            writer.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
    phase = Phase(name="all", amount=n, mixture=Mixture(domains=DOMAINS, weights=WEIGHTS, unit="samples"), current=DOMAINS)
    uniform, begun = SELECTORS["uniform"](), time.perf_counter()
    made = compose(
        Schedule(phases=(phase,)), pl.read_parquet(folder / "samples.parquet", columns=list(LIGHT)),
        domains=DOMAINS, select=uniform, replay_select=uniform, scores=None, max_repeats=3, seed=0,
    )  # fmt: skip
    tables.write(made.frame, folder / "composition.parquet", tables.COMPOSITION)
    return time.perf_counter() - begun


def ours(folder: Path, out: Path) -> Path:
    """Materialise the composition."""
    shutil.rmtree(out, ignore_errors=True)
    Parquet(per_domain=False).write(folder / "composition.parquet", folder / "samples.parquet", out)
    return out


def copy(made: Path, out: Path) -> Path:
    """Read what was materialised and write it again with polars."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    pl.scan_parquet(made / "mix" / "*.parquet").sink_parquet(out / "copy.parquet", row_group_size=GROUP, **WRITE)
    return out


def as_arrow(folder: Path) -> None:
    """Write the rows that the composition takes of every source, in the pool's order, as a dataset of its own."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    kept = [name for name in tables.SAMPLE if name not in ("role", "instruction_id")]
    rows = pl.read_parquet(folder / "composition.parquet", columns=["row"])["row"].sort()
    chosen = pl.read_parquet(folder / "samples.parquet", columns=kept)[rows]
    for (name,), part in chosen.partition_by("source", as_dict=True).items():
        Dataset(part.to_arrow(compat_level=pl.CompatLevel.oldest())).save_to_disk(folder / "arrow" / str(name))


def with_datasets(folder: Path, out: Path) -> Path:
    """Interleave, shuffle and write with ``datasets``."""
    from datasets import disable_progress_bars, interleave_datasets, load_from_disk

    disable_progress_bars()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    parts = [load_from_disk(str(path)) for path in sorted((folder / "arrow").iterdir())]
    shares = [len(part) / sum(map(len, parts)) for part in parts]
    mixed = interleave_datasets(parts, probabilities=shares, seed=0, stopping_strategy="all_exhausted_without_replacement")
    mixed.shuffle(seed=0).to_parquet(out / "train.parquet", batch_size=GROUP)
    return out


def is_the_plan(folder: Path, first: Path, other: Path) -> bool:
    """Return whether both are the composition's rows with their content, in its order unless ``datasets`` made them."""
    plan = pl.read_parquet(folder / "composition.parquet", columns=["sample_id"])["sample_id"]
    text = pl.col("messages").list
    own = text.first().struct.field("content").str.head(16) == pl.col("sample_id")
    whole = text.eval(pl.element().struct.field("content").str.len_chars()).list.sum() == pl.col("n_tokens")
    for out in (first, other):
        found = (
            pl.scan_parquet(sorted(out.rglob("*.parquet"))).select("sample_id", right=own & whole).collect(engine="streaming")
        )
        ids = found["sample_id"]
        same = ids.sort().equals(plan.sort()) if out.name == "datasets" else ids.equals(plan)
        if not (same and found["right"].all()):
            print(f"not the plan: {out.name}", file=sys.stderr)
            return False
    return True


def against_copy(folder: Path, n: int) -> tuple[Race, float]:
    """Prepare n rows and race us against the copy; return the race and the seconds that the plan took."""
    _, planned = alone(partial(prepare, folder, n))
    alone(partial(ours, folder, folder / "made"))
    sides = {"ours": partial(ours, folder, folder / "ours"), "copy": partial(copy, folder / "made", folder / "copy")}
    return race(f"{n:,} rows", sides, same=partial(is_the_plan, folder), repeats=9 if n <= 1_000_000 else 3), planned


def against_datasets(folder: Path, n: int) -> Race:
    """Race us against ``datasets`` over what was prepared, twice, for it takes its time."""
    alone(partial(as_arrow, folder))
    sides = {"ours": partial(ours, folder, folder / "ours"), "datasets": partial(with_datasets, folder, folder / "datasets")}
    same = partial(is_the_plan, folder)
    return race(f"{n:,} rows, datasets", sides, same=same, repeats=2, imports={"datasets": ["datasets"]})


def main() -> None:
    """Race at every size and tell the ratios, those at a million rows first."""
    sizes = [20_000] if QUICK else [1_000_000, 100_000, *([5_000_000, 10_000_000] if LARGE else [])]
    told: list[Ratio] = []
    costs: dict[str, Any] = {}
    equal = True
    for n in sizes:
        label, bounded = f"{n:,} rows", n > 1_000_000
        with tempfile.TemporaryDirectory() as folder:
            found, planned = against_copy(Path(folder), n)
            most = 1.5 if bounded else 1.15
            told += [
                found.ratio(f"{of} over polars copy, {label}", "ours", "copy", of=of, target=most) for of in ("cpu", "wall")
            ]
            told += [found.worst(f"peak MB, {label}", "ours", target=1300)] if bounded else []
            costs[label] = {**found.medians(), "plan": {"wall": round(planned, 3)}}
            equal = equal and found.equal
            if n == sizes[0]:
                other = against_datasets(Path(folder), n)
                told.append(other.ratio(f"cpu over datasets, {label}", "ours", "datasets", target=1 / 8))
                told.append(other.ratio(f"wall over datasets, {label}", "ours", "datasets", of="wall", target=1 / 12))
                costs[f"{label}, datasets"] = other.medians()
                equal = equal and other.equal
    tell("materialise", told, equal=equal, sizes={"rows": sizes, "sources": len(SIZES), "row_group": GROUP}, costs=costs)


if __name__ == "__main__":
    main()
