"""The same amount of every earlier domain, spread over its instructions and its answers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from composer.replay.base import ReplayPolicy


class SpreadReplay(ReplayPolicy):
    """``per_task`` of each earlier domain, spread evenly over its distinct instructions and, within them, over its answers.

    Where a task has fewer answers than rows (labels, look-ups, short facts), a few rows drawn by instruction alone leave some
    answers out, and these are forgotten first. Where every row has an answer of its own this is ``stratified``.
    """

    name: Literal["spread"] = "spread"
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "equal amounts, rows spread evenly over the instructions and the answers"
    natural_select: ClassVar[dict[str, Any]] = {"name": "spread"}
