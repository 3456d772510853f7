"""What a recipe says of a trial: which arms, over how many seeds, judged by what."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from composer.spec import Spec
from flows.trials.measures import measure_of


class Trial(Spec):
    """Arms to compare, each a name and what it changes of the recipe.

    ``measure`` is the one that is judged (:data:`flows.trials.measures.MEASURES`; of one domain as ``loss.law``), and ``worth``
    the smallest difference of it that is worth knowing; both are to be chosen before anything has been seen. With
    ``vary_base`` every seed has a base model of its own, where the recipe trains one.

    Examples
    --------
    >>> Trial(arms={"hot": {"train.learning_rate": 1e-3}}, measure="lose")
    Traceback (most recent call last):
    composer.errors.SpecError: measure: no such measure; got lose; did you mean 'loss'?
    """

    arms: dict[str, dict[str, Any]] = {}
    measure: str | None = None
    worth: float | None = Field(default=None, gt=0)
    seeds: int = Field(default=5, ge=2, le=1_000)
    vary_base: bool = False

    @field_validator("measure")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None:
            measure_of(name)
        return name
