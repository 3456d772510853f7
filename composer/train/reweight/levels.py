"""Weights set by hand, for stretches of training."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from composer.errors import SpecError
from composer.train.reweight.base import Look, Move, Reweighting

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Levels(Reweighting):
    """The weights that the recipe states from a step on: ``levels`` are pairs of a step and weights, the first at step 0.

    Weights are of any scale; a domain that a level leaves out gets none. A level is put in force at its own step, whatever
    ``every`` says, the first one before training.

    Examples
    --------
    >>> law = Levels(levels=((0, {"a": 1}), (100, {"a": 1, "b": 3})))
    >>> [step for step in range(200) if law.due(step)]
    [0, 100]
    >>> look = Look(
    ...     step=100, domains=("a", "b"), weights=np.array([1.0, 0.0]), loss=np.ones(2), previous=np.ones(2), reference=None,
    ...     train_loss=np.ones(2), memory={},
    ... )
    >>> law.move(look).weights.tolist()
    [0.25, 0.75]
    """

    name: Literal["levels"] = "levels"
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "weights stated in the recipe for stretches of steps"
    at_once: ClassVar[bool] = True

    floor: float = Field(default=0.0, ge=0, le=1)
    levels: tuple[tuple[int, dict[str, Weight]], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Levels:
        steps = [step for step, _ in self.levels]
        if steps[0] != 0 or any(a >= b for a, b in pairwise(steps)):
            raise SpecError("steps out of order", where="levels", expected="0 first, then ascending", got=steps)
        if idle := [step for step, weights in self.levels if not any(weights.values())]:
            raise SpecError("no domain gets any weight", where="levels", got=f"step {idle[0]}")
        return self

    def due(self, step: int) -> bool:
        """Say whether a level begins at this step."""
        return any(step == begin for begin, _ in self.levels)

    def check(self, domains: tuple[str, ...]) -> None:
        """Refuse domains that lack one that a level names, too."""
        super().check(domains)
        named = {domain for _, weights in self.levels for domain in weights}
        if unknown := sorted(named - set(domains)):
            known = ", ".join(domains)
            raise SpecError("no such domain", where="levels", expected=f"names among {known}", got=", ".join(unknown))

    def update(self, look: Look) -> Move:
        """Return the weights of the level that is in force."""
        level = [weights for begin, weights in self.levels if begin <= look.step][-1]
        return Move(weights=np.array([level.get(domain, 0.0) for domain in look.domains]), state="updated")
