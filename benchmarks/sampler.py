"""The data path: rows drawn by weights that move at every step, against a plain DataLoader and against rows of ``datasets``.

100,000 rows of some 150 tokens in six domains, in batches of 8, one pass. Theirs: a DataLoader that shuffles over flat arrays
of tokens, and one over a ``datasets`` table in torch format. Ours: ``Weighted`` with other weights before every step; once over
the same flat arrays with the same collation, and once as the trainer has it, over its own rows with its own collation.

All sides give the same four tensors; every fiftieth batch is made again from its rows' numbers, the plain way, and compared.
"""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from _harness import QUICK, Ratio, cpu_seconds, tell
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from composer.encode import Encoding
from composer.spec import rng
from composer.train import layout
from composer.train.batches import Row
from composer.train.layout import IGNORED
from composer.train.order import Weighted

N, REPEATS = (4_000, 2) if QUICK else (100_000, 5)
DOMAINS, BATCH, VOCAB, SEED, EVERY = 6, 8, 8192, 43, 50

Batch = dict[str, Tensor]
Item = tuple[int, np.ndarray, np.ndarray, int]
Kept = list[tuple[list[int], Batch]]
Supply = list[tuple[list[Row], list[int]]]


class Flat(Dataset[Item]):
    """All rows as slices of two flat arrays: number, tokens, whether each is trained on, and domain."""

    def __init__(self) -> None:
        dice = rng(SEED, "benchmark", "sampler")
        self.domain = dice.integers(0, DOMAINS, N)
        self.begin = np.concatenate([[0], np.cumsum(dice.integers(100, 201, N))])
        self.ids = dice.integers(0, VOCAB, self.begin[-1])
        self.trained = dice.random(len(self.ids)) < 0.5

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Item:
        at = slice(self.begin[i], self.begin[i + 1])
        return i, self.ids[at], self.trained[at], self.domain[i]


def padded(items: Sequence[Item]) -> tuple[list[int], Batch]:
    """Return the numbers of the rows and their four tensors, as the trainer's collation makes them."""
    shape = len(items), max(len(ids) for _, ids, _, _ in items)
    tokens, mask, labels = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, IGNORED)
    for i, (_, ids, trained, _) in enumerate(items):
        n = len(ids)
        tokens[i, :n], mask[i, :n], labels[i, :n] = ids, 1, np.where(trained, ids, IGNORED)
    labels[:, 0] = IGNORED
    tensors = {"input_ids": tokens, "attention_mask": mask, "labels": labels, "domain": np.array([item[3] for item in items])}
    return [int(item[0]) for item in items], {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}


def of_table(items: Sequence[dict[str, Tensor]]) -> tuple[list[int], Batch]:
    """Return the same of rows that come as tensors."""
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([item["ids"] for item in items], batch_first=True)
    mask = pad([torch.ones_like(item["ids"]) for item in items], batch_first=True)
    trained = pad([item["trained"] for item in items], batch_first=True)
    trained[:, 0] = False
    labels = torch.where(trained, ids, IGNORED)
    domain = torch.stack([item["domain"] for item in items])
    numbers = [int(item["at"]) for item in items]
    return numbers, {"input_ids": ids, "attention_mask": mask, "labels": labels, "domain": domain}


def table(flat: Flat) -> datasets.Dataset:
    """Return all rows as a table of ``datasets`` in torch format."""
    lists = {name: pa.LargeListArray.from_arrays(flat.begin, pa.array(getattr(flat, name))) for name in ("ids", "trained")}
    rows = pa.table({"at": pa.array(range(N)), **lists, "domain": pa.array(flat.domain)})
    return datasets.Dataset(rows).with_format("torch")


def supply_of(flat: Flat) -> Supply:
    """Return every domain's rows in an order by chance, each with its trained tokens."""
    supply: list[list[Row]] = [[] for _ in range(DOMAINS)]
    for i in rng(SEED, "benchmark", "supply").permutation(N).tolist():
        _, ids, trained, domain = flat[i]
        supply[domain].append(Row.of(str(i), int(domain), Encoding(tuple(ids.tolist()), tuple(trained.tolist()))))
    return [(rows, [row.n_loss_tokens for row in rows]) for rows in supply]


def passed(loader: Iterable[Any]) -> Kept:
    """Go through all batches and keep some."""
    return [batch for i, batch in enumerate(loader) if i % EVERY == 0]


def drawn(supply: Supply, weights: np.ndarray) -> Iterator[list[Row]]:
    """Return the rows of every step, by other weights each time."""
    order = Weighted(supply, weights=weights[0], size=BATCH, n_steps=len(weights))
    for each in weights:
        order.set_weights(each)
        yield order.take()


def main() -> None:
    """Time all sides in turns, compare what they gave, and tell."""
    torch.set_num_threads(1)
    flat = Flat()
    stored, supply = table(flat), supply_of(flat)
    weights = rng(SEED, "benchmark", "weights").dirichlet(np.ones(DOMAINS), -(-N // BATCH))
    shuffled = {"batch_size": BATCH, "shuffle": True, "generator": torch.Generator().manual_seed(SEED)}
    took, equal = timed(flat, len(weights), {
        "plain": lambda: passed(DataLoader(flat, collate_fn=padded, **shuffled)),
        "datasets": lambda: passed(DataLoader(stored, collate_fn=of_table, **shuffled)),
        "ours": lambda: passed(padded([flat[int(row.sample_id)] for row in rows]) for rows in drawn(supply, weights)),
        "ours as trained": lambda: passed(
            ([int(row.sample_id) for row in rows], layout.padded(rows)) for rows in drawn(supply, weights)
        ),
    })  # fmt: skip
    ratios = [
        ratio("a batch over a plain DataLoader", took["ours"], took["plain"], target=1.3),
        ratio("a batch over rows of datasets", took["ours"], took["datasets"], target=0.35),
        ratio("a batch as trained over a plain DataLoader", took["ours as trained"], took["plain"], target=1.3),
        ratio("a batch as trained over rows of datasets", took["ours as trained"], took["datasets"], target=0.35),
        ratio("a batch as trained over a step of 50 ms", took["ours as trained"], [50_000.0] * REPEATS, target=0.005),
    ]
    sizes = {"rows": N, "tokens": int(flat.begin[-1]), "domains": DOMAINS, "batch": BATCH, "batches": len(weights)}
    costs = {"microseconds a batch": {side: round(statistics.median(times), 1) for side, times in took.items()}}
    tell("sampler", ratios, equal=equal, sizes=sizes, costs=costs)


def timed(flat: Flat, n: int, sides: dict[str, Callable[[], Kept]]) -> tuple[dict[str, list[float]], bool]:
    """Return the microseconds that each side took for each of n batches, turn by turn, and whether all batches were right."""
    took: dict[str, list[float]] = {side: [] for side in sides}
    equal = True
    gc.freeze()  # else the one side's Python objects are walked through on the other side's time
    for i in range(REPEATS):
        for side, work in sides.items():
            seconds, kept = cpu_seconds(work)
            took[side].append(seconds / n * 1e6)
            equal = equal and len(kept) == -(-n // EVERY) and all(as_plain(flat, *batch) for batch in kept)
        shown = ", ".join(f"{side} {times[-1]:.1f}" for side, times in took.items())
        print(f"sampler {i + 1}: microseconds a batch: {shown}", file=sys.stderr)
    return took, equal


def as_plain(flat: Flat, numbers: list[int], batch: Batch) -> bool:
    """Say whether a batch is what the plain way makes of the same rows."""
    _, plain = padded([flat[i] for i in numbers])
    return batch.keys() == plain.keys() and all(torch.equal(batch[name], plain[name]) for name in plain)


def ratio(name: str, ours: list[float], theirs: list[float], *, target: float) -> Ratio:
    """Return the median over the turns."""
    values = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Ratio(name, statistics.median(values), target, "lower", len(values))


if __name__ == "__main__":
    main()
