"""More of the domains that the last stage of training made the model forget, as it was measured."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from composer.replay.base import RiskReplay


class LossReplay(RiskReplay):
    """The risk of a domain is the increase of its held-out loss (nats per token) since its own stage, after the last stage.

    It is the one policy that reads the training it plans: every stage is planned after the one before it was measured. Rows are
    spread evenly over instructions and answers.

    Examples
    --------
    >>> from composer.types import ReplayContext
    >>> stage = ReplayContext(
    ...     stage=2, earlier=("a", "b"), current=("c",), weights=(1.0,), available=(900, 900), forgetting={"a": 1.0, "b": -0.1}
    ... )
    >>> LossReplay(per_task=200, strength=2).amounts(stage).tolist()
    [300, 100]
    """

    name: Literal["loss"] = "loss"
    reference: ClassVar[str] = "forgetting degree: VersaTune, arXiv:2411.11266, phase 2"
    summary: ClassVar[str] = "more of what the last stage made the model forget, measured between the stages"
    needs: ClassVar[frozenset[str]] = frozenset({"forgetting"})
    field: ClassVar[str] = "forgetting"
    natural_select: ClassVar[dict[str, Any]] = {"name": "spread"}
