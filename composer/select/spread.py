"""Rows spread over instructions and, within them, over answers: what a task says comes back as evenly as how it is asked."""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from typing import ClassVar, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.candidates import Candidates
from composer.select.instruction import InstructionSelector
from composer.select.lookup import look_up
from composer.types import SelectContext


class SpreadSelector(InstructionSelector):
    """Of n rows every instruction gives its quota as in ``instruction``, and gives rows whose answers were rarely given yet.

    The instructions take turns, in random order within a turn; each gives a row whose answer has been chosen least often so
    far in this choice, whatever the instruction, and among such any. Where no two rows have the same answer this is the same
    as drawing at random.

    Examples
    --------
    >>> rows = pl.DataFrame({"sample_id": list("abcdef"), "instruction_id": list("iiiiii")})
    >>> answers = pl.DataFrame({"sample_id": list("abcdef"), "answer": [0, 0, 0, 0, 1, 2]})
    >>> picked = SpreadSelector().order(rows, context=SelectContext(answers=answers), n=3, seed=7)[:3]
    >>> sorted(answers["answer"][picked.tolist()])
    [0, 1, 2]
    """

    name: Literal["spread"] = "spread"  # type: ignore[assignment]
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "rows spread evenly over the instructions and, within them, over the answers"
    needs: ClassVar[frozenset[str]] = frozenset({"answers"})

    score: str = "uniform"

    def rank(self, rows: Candidates, *, context: SelectContext, n: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return the chosen rows in random order, then the others in random order."""
        table = cast("pl.DataFrame", context.answers)
        told = look_up(rows.rows["sample_id"], table, "answer", where=f"select {self.name}").to_numpy()
        _, answer = np.unique(told, return_inverse=True)
        if not len(answer) or answer.max() + 1 == len(answer):
            return super().rank(rows, context=context, n=n, generator=generator)
        quota = self._quotas(self._scores(rows, context), rows.size, n, generator)
        chosen = np.zeros(len(answer), dtype=np.bool_)
        chosen[spread(rows.instruction, answer, quota, generator)] = True
        return np.concatenate([generator.permutation(np.flatnonzero(part)) for part in (chosen, ~chosen)])


def spread(
    instruction: NDArray[np.int64], answer: NDArray[np.int64], quota: NDArray[np.int64], generator: np.random.Generator
) -> list[int]:
    """Return the places of ``quota[l]`` rows of every instruction l, with answers as even as the quotas let them be."""
    heaps, rows = _cells(instruction, answer, quota, generator)
    taken = [0] * (int(answer.max()) + 1)
    chosen: list[int] = []
    left = quota.copy()
    while (asked := np.flatnonzero(left)).size:
        for one in generator.permutation(asked).tolist():
            chosen.append(_next(heaps[one], rows, taken))
        left[asked] -= 1
    return chosen


Cell = tuple[int, float, int, int]
"""How often its answer was taken when it was last looked at, chance, the answer, and the place of its rows."""


def _cells(
    instruction: NDArray[np.int64], answer: NDArray[np.int64], quota: NDArray[np.int64], generator: np.random.Generator
) -> tuple[dict[int, list[Cell]], list[list[int]]]:
    """Return a heap of cells for every instruction that gives rows, and the rows of the cells in random order."""
    chance = generator.random(len(answer))
    order = np.lexsort((chance, answer, instruction))
    order = order[quota[instruction[order]] > 0]
    of, said = instruction[order], answer[order]
    begins = np.flatnonzero(np.diff(of, prepend=-1) | np.diff(said, prepend=-1))
    rows = [part.tolist() for part in np.split(order, begins[1:])]
    heaps: dict[int, list[Cell]] = {}
    for place, at in enumerate(begins.tolist()):
        heaps.setdefault(int(of[at]), []).append((0, float(chance[order[at]]), int(said[at]), place))
    for heap in heaps.values():
        heapify(heap)
    return heaps, rows


def _next(heap: list[Cell], rows: list[list[int]], taken: list[int]) -> int:
    """Take a row of the cell whose answer was taken least often; what a heap says of a cell may be old."""
    while True:
        seen, chance, answer, place = heap[0]
        if not rows[place]:
            heappop(heap)
        elif seen != taken[answer]:
            heapreplace(heap, (taken[answer], chance, answer, place))
        else:
            taken[answer] += 1
            return rows[place].pop()
