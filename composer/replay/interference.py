"""More of the domains that the coming ones contradict: near prompts with other answers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from composer.replay.base import RiskReplay


class InterferenceReplay(RiskReplay):
    """The risk of a domain is how far new rows that are near its own answer otherwise.

    See :func:`composer.similarity.interference.interference`, which is given ``near`` and at most ``rows`` rows of every
    domain. Within a domain rows are spread over the instructions by their interference, with at least one of each.

    It is the opposite of replay by distance where two domains are near and their answers differ: these forget each other most.

    Examples
    --------
    >>> from composer.types import ReplayContext
    >>> stage = ReplayContext(
    ...     stage=2, earlier=("a", "b"), current=("c",), weights=(1.0,), available=(900, 900), risk={"a": 0.0, "b": 0.5}
    ... )
    >>> InterferenceReplay(per_task=150, strength=2).amounts(stage).tolist()
    [100, 200]
    """

    name: Literal["interference"] = "interference"
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "more of what near new rows answer otherwise"
    needs: ClassVar[frozenset[str]] = frozenset({"risk"})
    field: ClassVar[str] = "risk"
    natural_select: ClassVar[dict[str, Any]] = {"name": "instruction", "score": "interference"}

    near: float = Field(default=0.5, gt=0, le=2)
    rows: int = Field(default=2048, ge=1)
