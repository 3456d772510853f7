"""InsCL's guided sampling: more rows of the instructions that say more, and at least one of each."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.apportion import apportion
from composer.errors import SpecError
from composer.select.base import Selector


class InstructionSelector(Selector):
    """Of n rows, instruction l gives ``beta_l = n s_l / sum s``, as a whole number and at least one; which rows is random.

    An instruction gives at most the rows it has, the others then give more. With fewer rows than instructions the n
    instructions of the highest score give one each, equal scores in random order. Where all scores are zero they count as
    equal. The score ``uniform`` is equal for all: rows are then spread evenly over the instructions.

    A score belongs to an instruction: of its samples' values the largest counts, and a sample without a value counts zero.

    Raises
    ------
    SpecError
        For a score that was not computed, or is negative.

    Examples
    --------
    >>> rows = pl.DataFrame({"sample_id": list("abcdef"), "instruction_id": list("iiiijk")})
    >>> picked = InstructionSelector(score="uniform").order(rows, scores=None, n=3, seed=7)[:3]
    >>> sorted(rows["instruction_id"][picked.tolist()])
    ['i', 'j', 'k']
    """

    name: Literal["instruction"] = "instruction"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, guided sampling"
    summary: ClassVar[str] = "rows per instruction in proportion to a score (InsInfo), at least one of each"

    score: str = "insinfo"

    def rank(
        self, rows: pl.DataFrame, *, scores: pl.DataFrame | None, n: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return the chosen rows in random order, then the others in random order."""
        instruction = rows["instruction_id"].rank("dense").to_numpy().astype(np.int64) - 1
        size = np.bincount(instruction)
        quota = self._quotas(self._score(rows, instruction, scores), size, n, generator)
        chance = generator.random(rows.height)
        by_instruction = np.lexsort((chance, instruction))
        place = np.empty(rows.height, dtype=np.int64)  # of a row among those of its instruction, by chance
        place[by_instruction] = np.arange(rows.height) - np.repeat(np.cumsum(size) - size, size)
        return np.lexsort((generator.random(rows.height), place >= quota[instruction]))

    def _score(self, rows: pl.DataFrame, instruction: NDArray[np.int64], scores: pl.DataFrame | None) -> NDArray[np.float64]:
        per_instruction = np.zeros(int(instruction.max(initial=-1)) + 1)
        if self.score == "uniform":
            return per_instruction
        named = None if scores is None else scores.filter(pl.col("score") == self.score)
        if named is None or named.is_empty():
            hint = "set tags in the recipe, or use {name: instruction, score: uniform}"
            there = [] if scores is None else scores["score"].unique().sort().to_list()
            raise SpecError(f"no score '{self.score}'", where="select.score", got=", ".join(there) or "no scores", hint=hint)
        known = rows.select("sample_id", pl.Series("instruction", instruction)).join(named, on="sample_id")
        if (known["value"] < 0).any():
            raise SpecError(
                "a negative score is no share", where="select.score", expected="0 or more", got=known["value"].min()
            )
        np.maximum.at(per_instruction, known["instruction"].to_numpy(), known["value"].to_numpy())
        return per_instruction

    def _quotas(
        self, score: NDArray[np.float64], size: NDArray[np.int64], n: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        if n < size.size:
            best = np.lexsort((generator.random(size.size), -score))[:n]
            return np.bincount(best, minlength=size.size)
        return apportion(score if score.any() else np.ones(size.size), n, capacity=size, minimum=1)
