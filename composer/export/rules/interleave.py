"""Rows drawn from one file or another by chance: the rule of ``datasets.interleave_datasets`` with probabilities.

A file is drawn by its probability, its rows in order. LLaMA-Factory, ms-swift and Oumi hand their weights to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from composer.errors import InputError
from composer.export.rules import Numbers, starts

Stopping = Literal["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"]

BLOCK = 1_000
"""Draws that are made at a time; together with the seed it decides which file every draw takes."""


def interleave(sizes: Sequence[int], probabilities: Sequence[float], *, seed: int, stop: Stopping) -> Numbers:
    """Return the row numbers in the order in which they are drawn.

    ``first_exhausted`` ends with the row that empties a file, ``all_exhausted`` with the row that empties the last one, files
    that are empty before then begin anew; ``all_exhausted_without_replacement`` passes over empty files instead.

    Raises
    ------
    InputError
        Where probabilities are not one per file with sum 1, a file without rows can be drawn, or one that never is must be
        emptied.

    References
    ----------
    datasets 5.2, ``interleave_datasets``.

    Examples
    --------
    >>> interleave([2, 9], [0.5, 0.5], seed=0, stop="first_exhausted").tolist()
    [2, 0, 1]
    >>> sorted(interleave([2, 3], [0.5, 0.5], seed=0, stop="all_exhausted_without_replacement").tolist())
    [0, 1, 2, 3, 4]
    """
    p = _checked(sizes, probabilities, stop)
    length, dice = np.asarray(sizes), np.random.default_rng(seed)
    ends = np.any if stop == "first_exhausted" else np.all
    drawn, counts = [], np.zeros(len(length), dtype=np.int64)
    while not ends((counts >= length)[p > 0]):
        drawn.append(dice.choice(len(length), size=BLOCK, p=p))
        counts += np.bincount(drawn[-1], minlength=len(length))
    files = np.concatenate(drawn) if drawn else np.zeros(0, dtype=np.int64)
    turn = _turns(files, len(length))
    last = np.flatnonzero(turn == length[files] - 1)  # the draws that empty a file
    files, turn = (each[: (last.min() if stop == "first_exhausted" else last.max()) + 1] for each in (files, turn))
    if stop == "all_exhausted_without_replacement":
        left = turn < length[files]
        files, turn = files[left], turn[left]
    numbers: Numbers = starts(sizes)[files] + turn % length[files]
    return numbers


def interleaved(
    numbers: Numbers, sizes: Sequence[int], probabilities: Sequence[float] | None, *, seed: int, stop: Stopping
) -> Numbers:
    """Return the row numbers of several files in the order of :func:`interleave`; without probabilities as they are.

    Examples
    --------
    >>> interleaved(np.array([4, 4, 7]), [2, 1], None, seed=0, stop="first_exhausted").tolist()
    [4, 4, 7]
    >>> interleaved(np.array([4, 4, 7]), [2, 1], [0.5, 0.5], seed=0, stop="first_exhausted").tolist()
    [7]
    """
    if not probabilities or len(sizes) == 1:
        return numbers
    return numbers[interleave(sizes, probabilities, seed=seed, stop=stop)]


def _turns(files: Numbers, n: int) -> Numbers:
    """Return how often each draw's file was drawn before."""
    out = np.empty(len(files), dtype=np.int64)
    for file in range(n):
        at = np.flatnonzero(files == file)
        out[at] = np.arange(len(at))
    return out


def _checked(sizes: Sequence[int], probabilities: Sequence[float], stop: str) -> NDArray[np.float64]:
    p = np.asarray(probabilities, dtype=np.float64)
    if stop not in get_args(Stopping):
        raise InputError("unknown way to stop", where="mix_strategy", got=stop, expected=", ".join(get_args(Stopping)))
    if len(p) != len(sizes) or (p < 0).any() or not np.isclose(p.sum(), 1, atol=1e-8):
        raise InputError("not one probability per file with sum 1", where="probabilities", got=list(probabilities))
    if empty := [i for i, size in enumerate(sizes) if size == 0 and p[i] > 0]:
        raise InputError("a file without rows has a probability", where="probabilities", got=f"file {empty[0]}")
    if stop != "first_exhausted" and not p.all():
        got = f"file {int(np.argmin(p))} has probability 0"
        raise InputError("a file that is never drawn cannot be emptied", where="probabilities", got=got)
    return p
