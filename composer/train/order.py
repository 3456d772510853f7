"""Which rows make the next optimiser step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from composer.train.batches import Row


class Order(Protocol):
    """What a trainer asks for the rows of its ``n_steps`` steps, one after another."""

    n_steps: int

    def take(self) -> Sequence[Row]:
        """Return the rows of the next step."""

    def state(self) -> dict[str, Any]:
        """Return where the order stands, as plain JSON."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from where the order stood."""


class Planned:
    """Steps that were made beforehand, ``times`` over.

    Examples
    --------
    >>> from composer.encode import Encoding
    >>> a, b = (Row(word, 0, Encoding((1, 2), (False, True))) for word in "ab")
    >>> order = Planned([[a], [b]], times=2)
    >>> order.n_steps, [order.take()[0].sample_id for _ in range(3)], order.state()
    (4, ['a', 'b', 'a'], {'taken': 3})
    """

    def __init__(self, steps: Sequence[Sequence[Row]], *, times: int = 1) -> None:
        self.steps, self.n_steps, self.taken = steps, len(steps) * times, 0

    def take(self) -> Sequence[Row]:
        """Return the rows of the next step."""
        self.taken += 1
        return self.steps[(self.taken - 1) % len(self.steps)]

    def state(self) -> dict[str, Any]:
        """Return how many steps were taken."""
        return {"taken": self.taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after the steps that were taken."""
        self.taken = int(state["taken"])
