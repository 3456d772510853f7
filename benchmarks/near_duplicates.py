"""Near-duplicates by MinHash: the libraries that offer it, and what is built on the fastest of them here.

The rows have 100 words, and one in ten is a copy of an earlier row with up to six words replaced. All sides get the same texts
and use word 3-grams, 128 permutations and 16 bands of 8, and go from texts to pairs; ours also measures every pair on the sets
and says which row stays, with those bands and with its own (21 of 6, which reach recall 0.99 at the threshold itself). Recall
is that of planted pairs with a Jaccard index of 0.8 or more, and precision the share of found pairs that have it.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _harness import QUICK, Ratio, race, tell

from composer.dedup.minhash import bucket_ids, signatures
from composer.dedup.near import SEED, NearDedup
from composer.dedup.rows import SLICE, Rows
from composer.spec import rng

N = 5_000 if QUICK else 100_000
WORDS, VOCABULARY, THRESHOLD, PERMUTATIONS, BANDS, NGRAM = 100, 20_000, 0.8, 128, 16, 3


def plant(folder: Path) -> Path:
    """Write the texts, and for each row the row of which it is a copy."""
    dice = rng(0, "benchmark", "near_duplicates")
    letters = dice.integers(97, 123, size=(VOCABULARY, 8), dtype=np.uint8)
    vocabulary = np.array([bytes(word[:n]).decode() for word, n in zip(letters, dice.integers(2, 9, VOCABULARY), strict=True)])
    words = dice.integers(VOCABULARY, size=(N, WORDS))
    origin = np.full(N, -1)
    for row in np.flatnonzero(dice.random(N) < 0.1).tolist():
        if row and origin[base := int(dice.integers(row))] < 0:
            origin[row], words[row] = base, words[base]
            words[row, dice.choice(WORDS, int(dice.integers(1, 7)), replace=False)] = dice.integers(VOCABULARY)
    path = folder / "rows.parquet"
    pl.DataFrame({"text": [" ".join(vocabulary[each]) for each in words], "origin": origin}).write_parquet(path)
    return path


def shingles(text: str) -> list[str]:
    """Return the word 3-grams of a text, as every side counts them."""
    words = text.split()
    return [" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]


def datasketch(path: Path) -> np.ndarray:
    """Return the pairs that datasketch's index yields."""
    from datasketch import MinHash, MinHashLSH

    texts = pl.read_parquet(path)["text"].to_list()
    signed = MinHash.bulk(([each.encode() for each in shingles(text)] for text in texts), num_perm=PERMUTATIONS)
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, PERMUTATIONS // BANDS))
    found = []
    for row, signature in enumerate(signed):
        found += [(other, row) for other in index.query(signature)]
        index.insert(row, signature)
    return np.array(found)


def gaoya(path: Path) -> np.ndarray:
    """Return the pairs that gaoya's index yields."""
    from gaoya.minhash import MinHashStringIndex

    texts = pl.read_parquet(path)["text"].to_list()
    index = MinHashStringIndex(
        hash_size=32, jaccard_threshold=0.0, num_bands=BANDS, band_size=PERMUTATIONS // BANDS, analyzer="word",
        ngram_range=(NGRAM, NGRAM), id_container="smallvec",
    )  # fmt: skip
    index.par_bulk_insert_docs(list(range(len(texts))), texts)
    found = enumerate(index.par_bulk_query(texts))
    return np.array([(other, row) for row, others in found for other in others if other < row])


def rensa(path: Path) -> np.ndarray:
    """Return the pairs that rensa's index yields."""
    from rensa import RMinHash, RMinHashLSH

    texts = pl.read_parquet(path)["text"].to_list()
    signed = RMinHash.from_token_sets((shingles(text) for text in texts), PERMUTATIONS, SEED)
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=BANDS)
    index.insert_many(signed)
    found = enumerate(index.query_all(signed))
    return np.array([(other, row) for row, others in found for other in others if other < row])


def ours(path: Path, *, bands: int | None) -> np.ndarray:
    """Return each row that goes with the row that stays in its place; every pair is measured."""
    original = NearDedup(threshold=THRESHOLD, ngram=NGRAM, permutations=PERMUTATIONS, bands=bands).alike(
        rows_of(path), embed=None
    )
    gone = np.flatnonzero(original != np.arange(len(original)))
    return np.stack([original[gone], gone], axis=1)


def rows_of(path: Path) -> Rows:
    """Return the view of a file's rows that the family sees."""
    text = pl.read_parquet(path)["text"]
    n = len(text)
    slices = lambda: iter(text[i : i + SLICE] for i in range(0, n, SLICE))  # noqa: E731
    return Rows(key=text.cast(pl.Binary), rank=np.arange(n), fixed=np.zeros(n, dtype=np.bool_), texts=slices)


def jaccard(texts: list[str], pairs: np.ndarray) -> np.ndarray:
    """Return the Jaccard index of each pair, by Python sets."""
    sets = {row: frozenset(shingles(texts[row])) for row in np.unique(pairs).tolist()}
    return np.array([len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs.tolist()])


def judged(path: Path, pairs: np.ndarray) -> dict[str, Any]:
    """Return how many pairs there are, what share of the planted ones is among them, and what share of them is near."""
    frame = pl.read_parquet(path)
    planted = np.stack([frame["origin"].to_numpy(), np.arange(len(frame))], axis=1)[(frame["origin"] >= 0).to_numpy()]
    near = planted[jaccard(frame["text"].to_list(), planted) >= THRESHOLD]
    found = set(map(tuple, pairs.tolist()))
    precision = jaccard(frame["text"].to_list(), pairs) >= THRESHOLD
    recall = float(np.mean([pair in found for pair in map(tuple, near.tolist())]))
    return {
        "pairs": len(pairs),
        "planted": len(near),
        "recall": round(recall, 5),
        "precision": round(float(precision.mean()), 5),
    }


def candidates(path: Path, *, bands: int, width: int) -> int:
    """Return how many pairs of rows share a bucket of ours."""
    rows = rows_of(path)
    hashed = signatures(rows.texts(), n=NGRAM, bands=bands, width=width, seed=SEED, total=len(rows))
    buckets = bucket_ids(hashed)
    pairs: set[tuple[int, int]] = set()
    for band in buckets.T:
        order = np.argsort(band, kind="stable")
        order = order[band[order] >= 0]
        for group in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
            pairs.update((a, b) for i, a in enumerate(group.tolist()) for b in group[i + 1 :].tolist())
    return len(pairs)


def main() -> None:
    """Run all sides in turns and tell rows per CPU second, recall, pairs and precision of each."""
    with tempfile.TemporaryDirectory() as folder:
        path = plant(Path(folder))
        sides = {
            "ours": partial(ours, path, bands=BANDS), "ours, own bands": partial(ours, path, bands=None),
            "rensa": partial(rensa, path), "gaoya": partial(gaoya, path), "datasketch": partial(datasketch, path),
        }  # fmt: skip
        raced = race("near_duplicates", {side: partial(_kept, work, Path(folder), side) for side, work in sides.items()},
                     same=lambda a, b: a[1] == b[1])  # fmt: skip
        outputs = {side: np.load(Path(folder) / f"{side}.npy") for side in sides}
        quality = {side: judged(path, pairs) for side, pairs in outputs.items()}
        shapes = {"ours": (BANDS, PERMUTATIONS // BANDS), "ours, own bands": NearDedup().shape}
        for side, (bands, width) in shapes.items():
            quality[side]["candidates"] = candidates(path, bands=bands, width=width)
    costs = {side: each | quality[side] | {"rows per CPU s": round(N / each["cpu"])} for side, each in raced.medians().items()}
    for side, each in costs.items():
        print(side, each, file=sys.stderr)
    right = all(quality[side]["precision"] == 1 for side in shapes)
    n = len(raced.costs["ours"])
    tell(
        "near_duplicates",
        [
            raced.ratio("cpu against rensa's index", "ours", "rensa", target=1.0),
            raced.ratio("cpu against gaoya", "ours", "gaoya", target=1.0),
            raced.ratio("cpu against datasketch", "ours", "datasketch", target=0.167),
            Ratio("recall at 0.8", quality["ours, own bands"]["recall"], 0.99, "higher", n),
            Ratio("precision at 0.8", quality["ours, own bands"]["precision"], 1.0, "higher", n),
        ],
        equal=raced.equal and right,
        sizes={"rows": N, "words": WORDS, "permutations": PERMUTATIONS, "bands": BANDS, "ngram": NGRAM},
        costs=costs,
    )


def _kept(work: Any, folder: Path, side: str) -> tuple[str, int]:
    """Run a side and keep its pairs beside the rows."""
    pairs = work()
    np.save(folder / f"{side}.npy", pairs)
    return side, N


if __name__ == "__main__":
    main()
