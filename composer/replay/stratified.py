"""The same amount of every earlier domain, spread over its instructions."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from composer.replay.base import ReplayPolicy


class StratifiedReplay(ReplayPolicy):
    """``per_task`` of each earlier domain, spread evenly over its distinct instructions.

    It is the control that tells what InsCL gains by its distances and scores from what it gains by covering every instruction.
    """

    name: Literal["stratified"] = "stratified"
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "equal amounts, rows spread evenly over the instructions"
    natural_select: ClassVar[dict[str, Any]] = {"name": "instruction", "score": "uniform"}
