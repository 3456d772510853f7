"""Ten million rows allotted and sampled for a sequence of sixteen tasks, without their texts: read, plan, compose.

A pool in Parquet, as the store keeps it: sixteen domains of as many rows, 5,000 instructions each of unlike size, and beside
the light columns one of messages that must not be read. What is timed reads, plans sixteen phases with InsCL's replay by
distance, composes all new rows and, in each phase, replayed ones of the instructions that say more (InsInfo of each), and
writes the composition. Distances and scores are given.

Of the result every promise is checked: each new row once, as many replayed rows as the phase asks for, of earlier domains and
none twice in a phase, ``row`` naming the sample it says, and one row of each of a domain's instructions of the highest scores.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from _harness import QUICK, alone, race, tell

from composer import tables
from composer.compose import compose
from composer.replay.distance import DistanceReplay
from composer.replay.schedule import plan
from composer.select.instruction import InstructionSelector
from composer.select.uniform import UniformSelector
from composer.spec import rng
from composer.types import Budget, Mixture, SimilarityMatrix

ROWS, DOMAINS = 100_000 if QUICK else 10_000_000, tuple(f"task-{i}" for i in range(16))
INSTRUCTIONS, BATCH, PER_TASK = 500 if QUICK else 5_000, 125_000, 200
LIGHT = ("sample_id", "source", "domain", "role", "instruction_id", "n_tokens", "n_loss_tokens")
SEED = 11


def pool(path: Path) -> None:
    """Write the rows, domain by domain."""
    arrow = pl.DataFrame(schema=pl.Schema(tables.SAMPLE)).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    with pq.ParquetWriter(path, arrow, compression="zstd", compression_level=3) as writer:
        for k, domain in enumerate(DOMAINS):
            for start in range(0, ROWS // len(DOMAINS), BATCH):
                m = min(BATCH, ROWS // len(DOMAINS) - start)
                frame = batch(k, domain, m, rng(SEED, "benchmark", "pool", k, start))
                writer.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))


def batch(k: int, domain: str, m: int, dice: np.random.Generator) -> pl.DataFrame:
    """Return m rows of a domain, the texts of random letters."""
    text = dice.integers(97, 123, 1_000_000, dtype=np.uint8).tobytes().decode()
    said = [text[at : at + 150] for at in dice.integers(len(text) - 150, size=2 * m).tolist()]
    turns = pa.StructArray.from_arrays([pa.array(["user", "assistant"] * m), pa.array(said)], names=["role", "content"])
    at = k * INSTRUCTIONS + (INSTRUCTIONS * dice.random(m) ** 2).astype(np.int64)
    columns = {
        "sample_id": [f"{i:016x}" for i in dice.integers(2**63, size=m).tolist()],
        "source": [domain] * m, "domain": [domain] * m, "role": ["target"] * m,
        "instruction_id": [f"{i:016x}" for i in at.tolist()],
        "messages": pl.Series(pa.ListArray.from_arrays(pa.array(np.arange(m + 1, dtype=np.int32) * 2), turns)),
        "n_tokens": dice.integers(100, 400, m), "n_loss_tokens": dice.integers(20, 100, m),
        "license": ["mit"] * m, "source_revision": ["0123456789abcdef"] * m, "extras": [None] * m,
    }  # fmt: skip
    return pl.DataFrame(columns, schema=pl.Schema(tables.SAMPLE))


def distances() -> SimilarityMatrix:
    """Return distances between the domains, about 0.5."""
    value = np.triu(0.4 + 0.2 * rng(SEED, "benchmark", "distances").random((len(DOMAINS),) * 2), 1)
    return SimilarityMatrix(domains=DOMAINS, value=tuple(map(tuple, (value + value.T).tolist())), measure="example")


def scores() -> pl.DataFrame:
    """Return InsInfo of every instruction, the same in all phases (INSTRUCTION_SCORE)."""
    n = len(DOMAINS) * INSTRUCTIONS
    value = 10 * rng(SEED, "benchmark", "scores").random(n)
    columns = {"instruction_id": [f"{i:016x}" for i in range(n)], "phase": [None] * n, "score": ["insinfo"] * n, "value": value}
    return pl.DataFrame(columns, schema=pl.Schema(tables.INSTRUCTION_SCORE))


def ours(path: Path, out: Path) -> Path:
    """Read the light columns, plan and compose, and leave the composition."""
    samples = pl.read_parquet(path, columns=list(LIGHT))
    there = samples["domain"].value_counts(name="n").rows_by_key("domain", unique=True)
    supply = {domain: n for domain, (n,) in there.items()}
    even = Mixture(domains=DOMAINS, weights=(1 / len(DOMAINS),) * len(DOMAINS), unit="samples")
    schedule = plan(
        [(domain,) for domain in DOMAINS], mixture=even, supply=supply, earlier=(), policy=DistanceReplay(per_task=PER_TASK),
        budget=Budget(unit="samples"), similarity=distances(),
    )  # fmt: skip
    made = compose(
        schedule, samples, domains=DOMAINS, select=UniformSelector(), replay_select=InstructionSelector(), max_repeats=1,
        seed=SEED, instruction_scores=scores(),
    )  # fmt: skip
    tables.write(made.frame, out, tables.COMPOSITION)
    return out


def checked(path: Path, out: Path) -> bool:
    """Return whether the composition keeps its promises."""
    samples = pl.read_parquet(path, columns=["sample_id", "domain", "instruction_id"])
    made = pl.read_parquet(out)
    new, old = made.filter(~pl.col("is_replay")), made.filter("is_replay")
    told = dict(old.group_by("phase").len().iter_rows())
    promises = {
        "each new row once": new["row"].sort().equals(pl.Series("row", np.arange(ROWS), dtype=pl.UInt32)),
        "the amount of every phase": told == {i: PER_TASK * i for i in range(1, len(DOMAINS))},
        "no row twice in a phase": not old.select(pl.struct("phase", "row").is_duplicated().any()).item(),
        "rows are what they say": samples["sample_id"][made["row"]].equals(made["sample_id"]),
        "earlier domains only": all(set(part["domain"]) <= set(DOMAINS[:i]) for (i,), part in old.group_by("phase")),
        "the best instructions": _are_best(
            samples.select("instruction_id", "domain")[old["row"]].with_columns(old["phase"]), samples
        ),
    }
    for promise in (name for name, kept in promises.items() if not kept):
        print(f"not kept: {promise}", file=sys.stderr)
    return all(promises.values())


def _are_best(replayed: pl.DataFrame, samples: pl.DataFrame) -> bool:
    """Return whether the n rows of a phase and a domain are one of each of its n instructions of the highest score."""
    known = samples.select("domain", "instruction_id").unique().join(scores(), on="instruction_id")
    ranked = known.with_columns(place=pl.col("value").rank("ordinal", descending=True).over("domain"))
    found = replayed.join(ranked.select("instruction_id", "place"), on="instruction_id").group_by("phase", "domain")
    counted = found.agg(n=pl.len(), distinct=pl.col("place").n_unique(), last=pl.col("place").max())
    return bool(counted.select(((pl.col("n") == pl.col("distinct")) & (pl.col("n") == pl.col("last"))).all()).item())


def main() -> None:
    """Make the pool, compose it in fresh processes, and check what came of it."""
    with tempfile.TemporaryDirectory() as name:
        path, out = Path(name) / "samples.parquet", Path(name) / "composition.parquet"
        alone(partial(pool, path))
        found = race(f"{ROWS:,} rows", {"ours": partial(ours, path, out)}, same=lambda a, b: a == b, repeats=2)
        _, kept = alone(partial(checked, path, out))
        megabytes = path.stat().st_size / 1e6
    label = f"{ROWS:,} rows"
    told = [
        found.worst(f"wall seconds, {label}", "ours", of="wall", target=60.0),
        found.worst(f"cpu seconds, {label}", "ours", of="cpu", target=60.0),
        found.worst(f"peak MB, {label}", "ours", target=8000.0),
    ]
    sizes = {"rows": ROWS, "domains": len(DOMAINS), "instructions of a domain": INSTRUCTIONS, "pool MB": round(megabytes)}
    tell("allocate", told, equal=kept, sizes=sizes, costs={label: found.medians()})


if __name__ == "__main__":
    main()
