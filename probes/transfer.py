"""What training on one task does to the others: the backward and forward transfer of a sequence of stages.

A score matrix has a row per stage and a column per task; None stands where a task was not measured. ``current`` holds, per
stage, the columns that were trained on in it: none for a base model that was measured before any training.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

Matrix = Sequence[Sequence[float | None]]


class Transfer(NamedTuple):
    """The mean change of a score, in the score's unit, and over how many tasks it is; None over no task."""

    mean: float | None
    n: int


def backward_transfer(scores: Matrix, current: Sequence[Collection[int]]) -> Transfer:
    """Return how much the tasks changed from their own stage to the last.

    ``mean_j R(last, j) - R(own, j)`` over the tasks j that were current last in a stage ``own`` before the last one. Of an
    accuracy, below zero is forgetting; of a loss, above zero is.

    References
    ----------
    Lopez-Paz and Ranzato, Gradient Episodic Memory (1706.08840), section 2.

    Examples
    --------
    >>> backward_transfer([[0.5, 0.0], [0.25, 0.75]], [[0], [1]])
    Transfer(mean=-0.25, n=1)
    """
    last = len(scores) - 1
    own = {j: k for k, stage in enumerate(current) for j in stage}
    return _mean_change(scores, [(j, k, last) for j, k in own.items() if k < last])


def forward_transfer(scores: Matrix, current: Sequence[Collection[int]]) -> Transfer:
    """Return how much the tasks had changed from the base model when their own stage began.

    ``mean_j R(own - 1, j) - R(0, j)`` over the tasks j that are first current in a stage ``own`` after stage 1, the first
    stage of training; stage 0 is the base model, without which it is undefined. (The paper's stage 0 is a network of random
    weights.) Of an accuracy, above zero the earlier tasks helped; of a loss, below zero they did.

    References
    ----------
    Lopez-Paz and Ranzato, Gradient Episodic Memory (1706.08840), section 2.

    Examples
    --------
    >>> forward_transfer([[0.0, 0.125], [0.5, 0.25], [0.25, 0.75]], [[], [0], [1]])
    Transfer(mean=0.125, n=1)
    """
    if not current or current[0]:
        return Transfer(None, 0)
    own = {j: k for k, stage in reversed(list(enumerate(current))) for j in stage}
    return _mean_change(scores, [(j, 0, k - 1) for j, k in own.items() if k > 1])


def _mean_change(scores: Matrix, spans: Sequence[tuple[int, int, int]]) -> Transfer:
    """Return the mean of ``R(b, j) - R(a, j)`` over the (j, a, b) that have both."""
    pairs = [(scores[a][j], scores[b][j]) for j, a, b in spans]
    changes = [after - before for before, after in pairs if before is not None and after is not None]
    return Transfer(float(np.mean(changes)) if changes else None, len(changes))
