"""The base of the laws that move domain weights while training goes on, and what all of them share.

A law looks at the losses of held-out rows before training and then every ``every`` optimiser steps. It knows nothing of models
or rows: a look comes in, weights go out, and what it must remember travels along as plain JSON, so that a run can be taken up
again. That a law gets what it needs, and that weights keep their bounds, is seen to here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from numpy.typing import ArrayLike
from pydantic import Field

from composer.errors import SpecError
from composer.laws.update import Vector
from composer.spec import Spec
from composer.train.reweight.bounded import bounded, check_bounds

_WAY_OUT = {"reference": "give train.reference"}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a law may read at one look; vectors are float64 of shape (k,), in the order of the domains.

    ``step`` optimiser steps are taken and ``weights`` were in force until now. ``loss`` are held-out token means in nats, now
    and at the look before (``previous``, None at the first); ``reference`` is what they might come down to, None where the
    recipe does not say. ``train_loss`` is the token mean of what was trained on since the last look, NaN where nothing was.
    ``memory`` is what the law left at the look before, empty at first.
    """

    step: int
    domains: tuple[str, ...]
    weights: Vector
    loss: Vector
    previous: Vector | None
    reference: Vector | None
    train_loss: Vector
    memory: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Move:
    """What a law answers: ``weights`` from now on, what it was ``told`` by the losses, and its ``state`` in one word.

    ``told`` and ``state`` are for the trace; ``memory`` is plain JSON, for the law's next look.
    """

    weights: Vector
    told: Mapping[str, Vector] = field(default_factory=dict)
    state: str
    memory: Mapping[str, Any] = field(default_factory=dict)


class Reweighting(Spec):
    """A rule that says how domain weights move with the losses.

    A member gives ``update``. ``every`` counts optimiser steps from one look to the next; no share falls below ``floor`` or
    exceeds ``cap``. At the first look, before training, a law holds the weights unless it is of those that move ``at_once``.
    """

    name: str
    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = ""
    at_once: ClassVar[bool] = False

    every: int = Field(default=50, ge=1)
    floor: float = Field(default=0.01, ge=0, le=1)
    cap: float = Field(default=1.0, gt=0, le=1)

    @property
    def needs(self) -> frozenset[str]:
        """The fields of a look that may be absent and that this law cannot do without: ``reference`` or none."""
        return frozenset()

    def due(self, step: int) -> bool:
        """Say whether the law looks once so many optimiser steps are taken."""
        return step % self.every == 0

    def start(self, weights: ArrayLike, domains: tuple[str, ...]) -> Vector:
        """Return the weights that training begins with: those of the recipe, within the bounds.

        Raises
        ------
        SpecError
            Where the law does not fit the domains.
        """
        self.check(domains)
        return bounded(weights, floor=self.floor, cap=self.cap)

    def move(self, look: Look) -> Move:
        """Return the weights from now on, on the simplex and within the bounds, and what led to them.

        Raises
        ------
        SpecError
            Where the look lacks what the law needs, or the law does not fit the domains.
        """
        self.check(look.domains)
        for wanted in sorted(self.needs):
            if getattr(look, wanted) is None:
                who = f"reweighting {self.name}"
                raise SpecError(f"needs {wanted}, which this run does not have", where=who, hint=_WAY_OUT[wanted])
        held = look.previous is None and not self.at_once
        move = Move(weights=look.weights, state="held") if held else self.update(look)
        return replace(move, weights=bounded(move.weights, floor=self.floor, cap=self.cap))

    def check(self, domains: tuple[str, ...]) -> None:
        """Refuse domains that the law does not fit.

        Raises
        ------
        SpecError
            Where so many shares cannot keep the bounds; members have more reasons.
        """
        check_bounds(len(domains), floor=self.floor, cap=self.cap)

    def update(self, look: Look) -> Move:
        """Return the move before its weights are bounded; they may be of any scale."""
        raise NotImplementedError


def given(vector: Vector | None) -> Vector:
    """Return a vector of a look that ``needs`` has made sure of."""
    assert vector is not None
    return vector
