"""InsCL's guided sampling: more rows of the instructions that say more, and at least one of each."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from composer.apportion import apportion
from composer.candidates import Candidates
from composer.errors import SpecError
from composer.select.base import Selector
from composer.select.scoring import refuse, values_of
from composer.types import SelectContext


class InstructionSelector(Selector):
    """Of n rows, instruction l gives ``beta_l = n s_l / sum s``, as a whole number and at least one; which rows is random.

    An instruction gives at most the rows it has, the others then give more. With fewer rows than instructions the n
    instructions of the highest score give one each, equal scores in random order. Where all scores are zero they count as
    equal. The score ``uniform`` is equal for all: rows are then spread evenly over the instructions.

    A score belongs to an instruction. Where it is one of samples, the largest value of an instruction's samples counts. An
    instruction without a value counts zero.

    Raises
    ------
    SpecError
        For a score that was not computed, or is negative.

    Examples
    --------
    >>> import polars as pl
    >>> rows = pl.DataFrame({"sample_id": list("abcdef"), "instruction_id": list("iiiijk")})
    >>> picked = InstructionSelector(score="uniform").order(rows, context=SelectContext(), n=3, seed=7)[:3]
    >>> sorted(rows["instruction_id"][picked.tolist()])
    ['i', 'j', 'k']
    """

    name: Literal["instruction"] = "instruction"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, guided sampling"
    summary: ClassVar[str] = "rows per instruction in proportion to a score (InsInfo), at least one of each"

    score: str = "insinfo"

    def rank(self, rows: Candidates, *, context: SelectContext, n: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return the chosen rows in random order, then the others in random order."""
        quota = self._quotas(self._scores(rows, context), rows.size, n, generator)
        chosen = draw(rows.size, quota, generator)
        return np.concatenate([generator.permutation(np.flatnonzero(part)) for part in (chosen, ~chosen)])

    def _scores(self, rows: Candidates, context: SelectContext) -> NDArray[np.float64]:
        """Return the score of every instruction."""
        out = np.zeros(rows.size.size)
        if self.score == "uniform":
            return out
        known = values_of(rows, self.score, context.instruction_scores, key="instruction_id")
        if known is None:
            known = values_of(rows, self.score, context.scores, key="sample_id")
            if known is None:
                hint = "set tags in the recipe, or use {name: instruction, score: uniform}"
                refuse(self.score, context.instruction_scores, context.scores, hint=hint)
            known = known.with_columns(at=rows.instruction[known["at"].to_numpy()])
        if (known["value"] < 0).any():
            raise SpecError(
                "a negative score is no share", where="select.score", expected="0 or more", got=known["value"].min()
            )
        np.maximum.at(out, known["at"].to_numpy(), known["value"].to_numpy())
        return out

    def _quotas(
        self, score: NDArray[np.float64], size: NDArray[np.int64], n: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        if n < size.size:
            best = np.lexsort((generator.random(size.size), -score))[:n]
            return np.bincount(best, minlength=size.size)
        return apportion(score if score.any() else np.ones(size.size), n, capacity=size, minimum=1)


def draw(size: NDArray[np.int64], quota: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return which places are drawn, ``quota[l]`` of a range of ``size[l]`` places, the ranges lying one behind the other.

    Every choice of so many places is as likely as any other. Where a range gives more than half of its places, those that it
    does not give are drawn.

    Examples
    --------
    >>> draw(np.array([2, 3, 4]), np.array([2, 0, 4]), np.random.default_rng(0)).astype(int).tolist()
    [1, 1, 0, 0, 0, 1, 1, 1, 1]
    """
    mostly = 2 * quota > size
    few = _draw_few(size, np.where(mostly, size - quota, quota), generator)
    return np.logical_xor(few, np.repeat(mostly, size))


def _draw_few(size: NDArray[np.int64], quota: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.bool_]:
    """Draw places, drop those drawn before, and draw again what lacks: the work grows with what is asked for."""
    drawn = np.zeros(int(size.sum()), dtype=np.bool_)
    asked = np.flatnonzero(quota)
    first, room, lacks = (np.cumsum(size) - size)[asked], size[asked], quota[asked]
    while lacks.any():
        of = np.repeat(np.arange(asked.size), lacks)
        new = np.unique(first[of] + generator.integers(room[of]))
        new = new[~drawn[new]]
        drawn[new] = True
        lacks = lacks - np.bincount(np.searchsorted(first, new, side="right") - 1, minlength=asked.size)
    return drawn
