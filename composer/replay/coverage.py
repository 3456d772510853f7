"""More of the domains whose instructions the coming ones do not cover, and of those instructions."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from composer.replay.base import RiskReplay


class CoverageReplay(RiskReplay):
    """The risk of a domain is the share of its instructions that partial transport to the new ones leaves uncovered.

    An old instruction is covered as far as new ones lie within the cost ``near`` and have room for it
    (:func:`composer.similarity.coverage.uncovered`). Within a domain rows are spread over the instructions in proportion to
    how far they are uncovered, with at least one of each.

    Examples
    --------
    >>> from composer.types import ReplayContext
    >>> stage = ReplayContext(
    ...     stage=2, earlier=("a", "b"), current=("c",), weights=(1.0,), available=(900, 900), risk={"a": 0.25, "b": 0.75}
    ... )
    >>> CoverageReplay(per_task=200, strength=2).amounts(stage).tolist()
    [150, 250]
    """

    name: Literal["coverage"] = "coverage"
    reference: ClassVar[str] = "partial transport: Caffarelli and McCann 2010"
    summary: ClassVar[str] = "more of what has no near new instruction, by partial transport"
    needs: ClassVar[frozenset[str]] = frozenset({"risk"})
    field: ClassVar[str] = "risk"
    natural_select: ClassVar[dict[str, Any]] = {"name": "instruction", "score": "uncovered"}

    near: float = Field(default=0.5, gt=0, le=2)
