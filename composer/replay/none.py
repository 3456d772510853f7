"""No replay, the baseline that forgets."""

from __future__ import annotations

from typing import ClassVar, Literal

from composer.replay.base import ReplayPolicy


class NoReplay(ReplayPolicy):
    """Nothing of the earlier domains comes back."""

    name: Literal["none"] = "none"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, baseline No Replay"
    summary: ClassVar[str] = "nothing comes back"

    per_task: Literal[0] = 0
