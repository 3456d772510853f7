"""The rows of the instruction that is least like those that are trained on now."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.candidates import Candidates
from composer.select.base import Selector
from composer.select.lookup import directions, vectors_of
from composer.types import SelectContext

_DIGITS = 9  # sums closer than this are a tie, so that rounding noise never decides who comes first


class DiverseSelector(Selector):
    """The instruction of the least ``sum over current c of cos(e_l, e_c)``; its rows at random, then those of the next least.

    Every instruction of the current domains counts once, however many rows it has. Ties are broken by chance. A vector of
    zeros is at right angles to all.

    Raises
    ------
    InputError
        For an instruction, of the domain or of the current ones, without a vector.

    References
    ----------
    InsCL, arXiv:2403.11435, baseline Diverse Instruction.

    Examples
    --------
    >>> rows = pl.DataFrame({"sample_id": ["a", "b", "c"], "instruction_id": ["near", "far", "far"]})
    >>> vectors = pl.DataFrame({"instruction_id": ["near", "far", "new"], "vector": [[1.0, 0.1], [0.0, 1.0], [1.0, 0.0]]})
    >>> now = SelectContext(embeddings=vectors, current=pl.DataFrame({"instruction_id": ["new"], "n": [9]}))
    >>> order = DiverseSelector().order(rows, context=now, n=2, seed=7)
    >>> rows["instruction_id"][order.tolist()].to_list()
    ['far', 'far', 'near']
    """

    name: Literal["diverse"] = "diverse"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, baseline Diverse Instruction"
    summary: ClassVar[str] = "rows of the instruction least like the current ones"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings", "current"})

    def rank(
        self,
        rows: Candidates,
        *,
        context: SelectContext,
        n: int,  # noqa: ARG002
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return the rows instruction by instruction, those of one in random order."""
        table, current = cast("pl.DataFrame", context.embeddings), cast("pl.DataFrame", context.current)
        own = vectors_of(rows.instruction_ids, table, where="select diverse")
        alike = np.zeros(len(own))
        if len(current):
            coming = vectors_of(current["instruction_id"], table, where="select diverse")
            alike = np.round(directions(own) @ directions(coming).sum(axis=0), _DIGITS)
        place = np.empty(len(own), dtype=np.int64)
        place[np.lexsort((generator.random(len(own)), alike))] = np.arange(len(own))
        shuffled = generator.permutation(len(rows))
        return shuffled[np.argsort(place[rows.instruction[shuffled]], kind="stable")]
