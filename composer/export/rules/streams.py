"""Streams of shards that are drawn more or less often: how MosaicML's streaming makes an epoch of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from composer.errors import InputError
from composer.export.rules import Numbers

WEIGHTS = ("proportion", "repeat", "choose")


def wanted(sizes: Sequence[int], weights: Sequence[Mapping[str, float]], *, epoch: int | None, seed: int) -> Numbers:
    """Return how many rows every stream gives: shares of the epoch (``proportion``), or each a number of its own.

    Shares are cut down to whole rows, and the rows that are left go to streams by chance. ``epoch`` is all rows unless told.

    Raises
    ------
    InputError
        Where shares stand beside numbers, or a stream has several weights.

    References
    ----------
    MosaicML streaming 0.13, ``Stream``.

    Examples
    --------
    >>> wanted([10, 10], [{"repeat": 1.5}, {"choose": 4}], epoch=None, seed=0).tolist()
    [15, 4]
    """
    kinds = [[word for word in WEIGHTS if word in weight] for weight in weights]
    relative = ["proportion" in kind for kind in kinds]
    if any(len(kind) > 1 for kind in kinds) or (any(relative) and not all(relative)):
        expected = "proportion in all streams, or repeat or choose in some, one of them a stream"
        raise InputError("weights that do not go together", where="streams", expected=expected, got=kinds)
    if not any(relative):
        numbers = [
            int(w["repeat"] * n) if "repeat" in w else int(w.get("choose", n)) for n, w in zip(sizes, weights, strict=True)
        ]
        return np.asarray(numbers, dtype=np.int64)
    n = epoch or sum(sizes)
    share = np.array([weight["proportion"] for weight in weights], dtype=np.float64)
    chosen: Numbers = (n * (share / share.sum())).astype(np.int64)
    chosen[np.random.default_rng(seed).choice(len(sizes), n - chosen.sum(), False)] += 1
    return chosen


def drawn(shards: Sequence[Sequence[int]], numbers: Sequence[int], *, seed: int, granularity: int = 1) -> Numbers:
    """Return the row numbers of the first epoch before it is shuffled: stream after stream, shard after shard.

    A stream takes whole passes over its shards; of one more pass, as many rows of each as chance gives it, in order.

    Parameters
    ----------
    shards
        For every stream, how many rows each of its shards has.
    numbers
        For every stream, how many rows it gives.
    seed
        The ``shuffle_seed``.
    granularity
        Rows that are taken of a shard at a time.

    Examples
    --------
    >>> drawn([[2, 1], [2]], [3, 4], seed=0).tolist()
    [0, 1, 2, 3, 4, 3, 4]
    """
    dice, out, start = np.random.default_rng(seed), [np.zeros(0, dtype=np.int64)], 0
    for sizes, n in zip(shards, numbers, strict=True):
        for size, take in zip(sizes, _of_shards(np.asarray(sizes), int(n), seed=seed, granularity=granularity), strict=True):
            passes, rest = divmod(int(take), size)
            out += [start + np.arange(size)] * passes
            out += [start + np.sort(dice.choice(size, rest, False))] if rest else []
            start += size
    return np.concatenate(out)


def _of_shards(sizes: Any, n: int, *, seed: int, granularity: int) -> Any:
    """Return how many rows each shard of a stream gives."""
    passes, rest = divmod(n, int(sizes.sum()))
    picks = -(-sizes // granularity)
    shard = np.repeat(np.arange(len(sizes)), picks)
    amount = np.full(len(shard), granularity)
    amount[np.cumsum(picks) - 1] = sizes - (picks - 1) * granularity
    order = np.random.default_rng(seed).permutation(len(shard))
    before = np.cumsum(amount[order]) - amount[order]
    taken = np.clip(rest - before, 0, amount[order])
    return passes * sizes + np.bincount(shard[order], weights=taken, minlength=len(sizes)).astype(np.int64)
