"""More of the new instead of the old: the control that trains as long as replay does, and replays nothing."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from composer.replay.base import ReplayPolicy
from composer.types import ReplayContext


class Padding(ReplayPolicy):
    """``per_task`` rows more of the current domains for each earlier one, and none of the earlier ones.

    What replay does beyond this is not the work of more training. New rows come again where they are too few, as often as the
    budget's ``max_repeats`` lets them.

    Examples
    --------
    >>> stage = ReplayContext(stage=2, earlier=("a", "b"), current=("c",), weights=(1.0,), available=(900, 50))
    >>> Padding(per_task=200).amounts(stage).tolist(), Padding(per_task=200).padding(stage)
    ([0, 0], 400)
    """

    name: Literal["padding"] = "padding"
    summary: ClassVar[str] = "nothing comes back; as much more of the new domains (a control)"

    def amounts(self, context: ReplayContext) -> NDArray[np.int64]:
        """Return nothing for every earlier domain."""
        return np.zeros(len(context.earlier), dtype=np.int64)

    def padding(self, context: ReplayContext) -> int:
        """Return as much as replay would be of domains that have it, ``per_task`` of each at most."""
        return int(super().amounts(context).sum())
