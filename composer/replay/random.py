"""The same amount of every earlier domain, any rows."""

from __future__ import annotations

from typing import ClassVar, Literal

from composer.replay.base import ReplayPolicy


class RandomReplay(ReplayPolicy):
    """``per_task`` of each earlier domain, of rows drawn at random.

    Examples
    --------
    >>> from composer.types import ReplayContext
    >>> stage = ReplayContext(stage=2, earlier=("a", "b"), current=("c",), weights=(1.0,), available=(900, 50))
    >>> RandomReplay(per_task=200).amounts(stage).tolist()
    [350, 50]
    """

    name: Literal["random"] = "random"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, baseline Random Replay"
    summary: ClassVar[str] = "equal amounts, random rows"
