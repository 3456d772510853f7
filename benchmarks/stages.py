"""What the stages between the sources and training cost, at two sizes: seconds, peak memory, and the bytes that they leave.

A recipe is carried out over made rows, every stage in a fresh process of its own that finds in the store what it reads. Rows
are of about 120 words, of which the instruction has 20, and two rows ask the same. The two sizes show whether a stage grows as
its rows do, which ``sft-composer estimate --at`` takes for granted: its rates are what the larger costs beyond the smaller.

The pool is measured again on many more rows, which are made without their sources: it holds little of each, and at the sizes
above what grows is what it reads ahead. ``reading`` is no stage: it is what every process of a training does before its first
step, all rows as tokens.
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from _harness import QUICK, Ratio, alone, tell
from allocate import batch

from composer import tables
from composer.pooling import pool
from composer.spec import rng
from flows.pipeline import make_plan
from flows.recipe import read_recipe
from flows.shell import carry_out

ROWS = (1_000, 4_000) if QUICK else (10_000, 40_000)
POOLED = (2_000, 8_000) if QUICK else (100_000, 300_000)
DOMAINS = ("one", "two")
NAMES = ("ingest", "pool", "tag", "score") if QUICK else (
    "ingest", "pool", "embed", "answers", "tag", "score", "mix", "replay", "compose", "export", "reading",
)  # fmt: skip
ASKED, SAID, SHARED = 20, 100, 2
TOKENIZER, WORDS = ("transformers", "composer.train.batches"), ("sklearn.decomposition", "sklearn.feature_extraction.text")
IMPORTS = {"base": ("torch", *TOKENIZER), "ingest": TOKENIZER, "reading": TOKENIZER, "embed": WORDS, "tag": WORDS}


def corpus(folder: Path, n: int) -> tuple[Path, dict[str, int]]:
    """Write n rows over the domains, documents for a tokenizer, and the recipe; return it and what the rows come to."""
    dice = rng(0, "benchmark", "stages", n)
    words = np.array(["".join(chr(97 + int(c)) for c in dice.integers(0, 26, dice.integers(2, 10))) for _ in range(20_000)])
    weights = 1 / np.arange(1, len(words) + 1)
    text = words[dice.choice(len(words), size=n * (ASKED // SHARED + SAID) + ASKED, p=weights / weights.sum())].tolist()
    asked = [" ".join(text[i * ASKED : (i + 1) * ASKED]) for i in range(n // SHARED)]
    said = [" ".join(text[len(text) - (i + 1) * SAID : len(text) - i * SAID]) for i in range(n)]
    for k, domain in enumerate(DOMAINS):
        own = ({"question": asked[i // SHARED], "answer": said[i]} for i in range(n) if i // SHARED % len(DOMAINS) == k)
        (folder / f"{domain}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own), encoding="utf-8")
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": each}) + "\n" for each in said[:500]), encoding="utf-8")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(folder)), encoding="utf-8")
    read = sum(map(len, said)) + SHARED * sum(map(len, asked))
    return folder / "recipe.yaml", {"text bytes": read, "instructions": len(asked), "instruction bytes": sum(map(len, asked))}


def recipe(folder: Path) -> dict[str, Any]:
    """Return a recipe that has every stage of the list."""
    made = {"weights": {"one": 1.0}, "documents": 300, "hidden": 32, "heads": 1, "layers": 1, "vocab": 4096, "threads": 1}
    return {
        "name": "stages", "root": str(folder), "base_model": {"train": made, "corpora": {"one": {"path": "text.jsonl"}}},
        "sources": [{"name": domain, "path": f"{domain}.jsonl", "domain": domain} for domain in DOMAINS],
        "embed": {"name": "lexical", "dims": 128}, "probe": None, "distance": None, "law": "proportional",
        "replay_select": {"name": "spread"}, "sequence": list(DOMAINS),
        "replay": {"name": "random", "per_task": 100}, "exports": ["parquet"], "train": None,
    }  # fmt: skip


def until(path: Path, name: str) -> dict[str, Any]:
    """Carry out the recipe up to the steps of one stage; return the bytes that they left and, of samples, their tokens."""
    read = read_recipe(path)
    store = read.store_at()
    plan = make_plan(read, store).until(name)
    made = carry_out(plan, store, plain=True)
    own = [made[step.label] for step in plan if step.stage.name == name]
    size = sum(record.n_bytes for each in own for record in each.manifest.files.values())
    return {"bytes": size, **({"tokens": own[0].manifest.stats["tokens"]} if name == "pool" else {})}


def reading(path: Path) -> dict[str, Any]:
    """Read all rows of the composition as tokens, as a training does."""
    from composer.train.batches import Reader
    from flows.models import tokenizer_of

    read = read_recipe(path)
    store = read.store_at()
    steps = {step.stage.name: step for step in make_plan(read, store)}
    found = {name: store.get(f"{steps[name].stage.kind}/{steps[name].key}") for name in ("compose", "pool", "base")}
    samples = pl.read_parquet(found["pool"].file("samples.parquet"))
    composition = pl.read_parquet(found["compose"].file("composition.parquet"))
    tokenizer = tokenizer_of(steps["ingest"].values["model"], found["base"])
    rows = Reader(composition, samples, tokenizer=tokenizer, max_length=read.max_length).read(range(composition.height))
    return {"bytes": 0, "rows": len(rows)}


def costs(n: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Carry out every stage over n rows; return what the rows are and what each stage cost."""
    with tempfile.TemporaryDirectory() as folder:
        path, sizes = corpus(Path(folder), n)
        out: dict[str, Any] = {}
        for name in ("base", *NAMES):
            work = partial(reading, path) if name == "reading" else partial(until, path, name)
            cost, left = alone(work, imports=IMPORTS.get(name, ()))
            print(
                f"{n:,} rows, {name}: {cost.cpu:.2f} s CPU, {cost.wall:.2f} s, {cost.peak:.0f} MB", file=sys.stderr, flush=True
            )
            out[name] = {
                "cpu": round(cost.cpu, 3),
                "wall": round(cost.wall, 3),
                "peak": round(cost.peak, 3),
                "bytes": left["bytes"],
            }
            sizes |= {"tokens": left["tokens"]} if "tokens" in left else {}
        out.pop("base")
        return {"rows": n, **sizes}, out


def pooled(n: int) -> dict[str, Any]:
    """Return what it costs to pool n rows of one source."""
    with tempfile.TemporaryDirectory() as folder:
        part, out = Path(folder, "part"), Path(folder, "out")
        part.mkdir()
        out.mkdir()
        rows = batch(0, "one", n, rng(0, "benchmark", "pooled", n))
        tables.write(rows, part / "samples.parquet", tables.SAMPLE)
        asked = rows.select("instruction_id", text=pl.col("instruction_id")).unique(maintain_order=True)
        tables.write(asked, part / "instructions.parquet", tables.INSTRUCTION)
        tables.write(pl.DataFrame(schema=tables.DROPPED), part / "dropped.parquet", tables.DROPPED)
        keys = [bytes.fromhex(each) * 2 for each in rows["sample_id"]]
        pl.DataFrame({"key": keys}, schema={"key": pl.Binary}).write_parquet(part / "keys.parquet")
        del rows, keys
        cost, _ = alone(partial(pool_alone, part, out))
        print(f"{n:,} rows pooled: {cost.cpu:.2f} s CPU, {cost.wall:.2f} s, {cost.peak:.0f} MB", file=sys.stderr, flush=True)
        return {"rows": n, "cpu": round(cost.cpu, 3), "wall": round(cost.wall, 3), "peak": round(cost.peak, 3)}


def pool_alone(part: Path, out: Path) -> None:
    """Pool one part."""
    pool([part], out, holdout=0.1, seed=0)


def main() -> None:
    """Measure both sizes and say how far a stage's cost outgrows its rows."""
    (few, small), (many, large) = (costs(n) for n in ROWS)
    growth = many["rows"] / few["rows"]
    cpu = [sum(each["cpu"] for each in told.values()) for told in (small, large)]
    left = [sum(each["bytes"] for each in told.values()) for told in (small, large)]
    tell(
        "stages",
        [
            Ratio("cpu of all stages over that of a quarter of the rows, a row", cpu[1] / cpu[0] / growth, 1.1, "lower", 1),
            Ratio("bytes left over those of a quarter of the rows, a row", left[1] / left[0] / growth, 1.1, "lower", 1),
        ],
        equal=True,
        sizes={"few": few, "many": many},
        costs={"few": small, "many": large, "pooled": [pooled(n) for n in POOLED]},
    )


if __name__ == "__main__":
    main()
