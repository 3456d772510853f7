"""Which rows make the next optimiser step: planned beforehand, or drawn by weights that may move between steps.

Nothing is left to chance. The order follows from the supply and from the weights and when they were set, so that a run can be
taken up from the few numbers of its state, and the weights it wrote down give its order again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import inf
from typing import Any, Literal, Protocol

from composer.errors import FaultError, InputError
from composer.train.batches import Row

_UNIT = 2**40  # of a share; credits are whole numbers, so that equal ones are equal and no rounding piles up


class Order(Protocol):
    """The rows of ``n_steps`` optimiser steps, one step after the other."""

    n_steps: int

    def take(self) -> list[Row]:
        """Return the rows of the next step."""

    def state(self) -> dict[str, Any]:
        """Return how far the order is, as plain JSON."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of an order that was made alike."""


class Planned:
    """Steps made beforehand (:func:`composer.train.batches.steps`).

    Examples
    --------
    >>> order = Planned([["a", "b"], ["c"]])
    >>> order.n_steps, order.take(), order.state(), order.take()
    (2, ['a', 'b'], {'taken': 1}, ['c'])
    """

    def __init__(self, plan: Sequence[Sequence[Row]]) -> None:
        self.n_steps = len(plan)
        self._plan, self._taken = plan, 0

    def take(self) -> list[Row]:
        """Return the rows of the next step.

        Raises
        ------
        FaultError
            Where all steps are taken.
        """
        _check_left(self._taken, self.n_steps)
        self._taken += 1
        return list(self._plan[self._taken - 1])

    def state(self) -> dict[str, Any]:
        """Return the number of steps taken."""
        return {"taken": self._taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after so many steps.

        Raises
        ------
        FaultError
            For a state of an order that was made otherwise.
        """
        _check_fits(0 <= state["taken"] <= self.n_steps, state["taken"], expected=f"0 to {self.n_steps} steps")
        self._taken = state["taken"]


class Weighted:
    """Rows drawn by weights that may be set anew between steps, every domain's in the order in which they are supplied.

    Every domain has a credit, zero at first. A draw takes the next row of the domain of the largest credit, of equal ones that
    of the larger weight, then the first; a row of size s then adds ``w_j s`` to every credit and costs its own domain s.
    Credits are kept when weights move. As long as all k domains have weight and rows, with s the largest row, none is ever
    more than s ahead of what its weights have owed it, and none more than ``(1 + 1/2 + ... + 1/(k - 1)) s`` behind, however
    the weights move.

    A domain whose weight is zero is never drawn from, and one that runs dry leaves its weight to the others in proportion; both
    keep their credit. ``exhausted`` tells the steps whose draw took a domain's last row, and the domain.

    Parameters
    ----------
    supply
        For each domain its rows, in the order in which they are to be taken, and their sizes in the mixture's unit.
    weights
        The share of every domain, of any scale.
    size
        Rows of a step.
    n_steps
        How many steps there are to be.
    batches
        ``mixed``, or ``domain`` for steps of one domain, of which the domain is drawn and the size is that of all its rows.
    n_rows
        Rows of all steps, at most: the last step has what is left of them.
    amount
        Of all steps, in the mixture's unit, in the place of a number of rows: every step draws until its even part of it is
        reached, at least one row, and leaves one for each step to come, so that the whole is met to within a row however the
        weights move. Not for steps of one domain.

    Raises
    ------
    InputError
        For weights that are no shares, and for more steps than there are rows for.

    Examples
    --------
    >>> supply = [("abcdefgh", [10] * 8), ("ABCDEFGH", [10] * 8)]
    >>> order = Weighted(supply, weights=[0.75, 0.25], size=4, n_steps=3)
    >>> order.take()
    ['a', 'A', 'b', 'c']
    >>> order.set_weights([0.25, 0.75])
    >>> order.take(), order.take(), order.exhausted
    (['B', 'd', 'C', 'D'], ['E', 'e', 'F', 'G'], ())
    """

    def __init__(
        self, supply: Sequence[tuple[Sequence[Row], Iterable[int]]], *, weights: Iterable[float], size: int, n_steps: int,
        batches: Literal["mixed", "domain"] = "mixed", n_rows: int | None = None,
        amount: int | None = None,
    ) -> None:  # fmt: skip
        if size < 1:
            raise InputError("a step without rows", where="size", expected="1 or more", got=size)
        self._rows = [rows for rows, _ in supply]
        self._sums = [list(accumulate(map(int, sizes), initial=0)) for _, sizes in supply]
        self._draws, self._each = (1, size) if batches == "domain" else (size, 1)  # of a step, and rows of a draw
        self.n_steps, self._taken, self._n_rows = n_steps, 0, n_steps * size if n_rows is None else n_rows
        self._amount, self._drawn = None if batches == "domain" else amount, 0
        self._left = self._n_rows = self._n_rows if self._amount is None else sum(map(len, self._rows))
        self._at, self._credit = [0] * len(supply), [0] * len(supply)
        self._exhausted = [(0, k) for k, rows in enumerate(self._rows) if not rows]
        draws = sum(-(-len(rows) // self._each) for rows in self._rows)
        most = draws if self._amount is not None else -(-draws // self._draws)
        if n_steps > most:
            hint = "raise budget.max_repeats, give more data, or train for fewer steps"
            raise InputError("more steps than there are rows for", expected=f"at most {most}", got=n_steps, hint=hint)
        self.set_weights(weights)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights in force, as they were set."""
        return self._weights

    @property
    def exhausted(self) -> tuple[tuple[int, int], ...]:
        """The steps at which domains ran dry, and their numbers; those that had no row at all did at step 0."""
        return tuple(self._exhausted)

    def set_weights(self, weights: Iterable[float]) -> None:
        """Draw by other weights from the next step on.

        Raises
        ------
        InputError
            For weights that are no shares of these domains.
        """
        values = tuple(map(float, weights))
        if len(values) != len(self._rows) or not (min(values, default=-1) >= 0 and 0 < sum(values) < inf):
            expected = f"{len(self._rows)} finite numbers, none negative, one above zero"
            raise InputError("weights that are no shares", where="weights", expected=expected, got=list(values))
        self._weights = values
        self._share_out()

    def take(self) -> list[Row]:
        """Return the rows of the next step; fewer than its size where no more are left.

        Raises
        ------
        InputError
            Where rows are left, but only of domains of weight zero.
        FaultError
            Where all steps are taken.
        """
        _check_left(self._taken, self.n_steps)
        rows: list[Row] = []
        draws = 0
        while self._share and self._left and not self._is_full(draws):
            rows += self._draw()
            draws += 1
        if not rows:
            hint = "give a weight to the domains that have rows, raise budget.max_repeats, or train for fewer steps"
            raise InputError("no rows are left of the domains that have weight", where=f"step {self._taken}", hint=hint)
        self._taken += 1
        return rows

    def state(self) -> dict[str, Any]:
        """Return the steps and rows taken, how much that is, the weights, the credits, and what has run dry."""
        return {
            "taken": self._taken, "drawn": self._drawn, "at": list(self._at), "weights": list(self._weights),
            "credit": list(self._credit), "exhausted": [list(event) for event in self._exhausted],
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, to the same rows as without a stop.

        Raises
        ------
        FaultError
            For a state of an order that was made otherwise.
        """
        there = [len(rows) for rows in self._rows]
        fits = len(state["at"]) == len(there) and all(0 <= at <= n for at, n in zip(state["at"], there, strict=True))
        _check_fits(fits, state["at"], expected=f"rows taken of {there}")
        _check_fits(0 <= state["taken"] <= self.n_steps, state["taken"], expected=f"0 to {self.n_steps} steps")
        self._taken, self._at, self._credit = state["taken"], list(state["at"]), list(state["credit"])
        self._left, self._drawn = self._n_rows - sum(self._at), state["drawn"]
        self._exhausted = [(step, domain) for step, domain in state["exhausted"]]
        self.set_weights(state["weights"])

    def _is_full(self, draws: int) -> bool:
        if self._amount is None:
            return draws == self._draws
        reached = self._drawn * self.n_steps >= self._amount * (self._taken + 1)
        return draws > 0 and (reached or self._left < self.n_steps - self._taken)

    def _draw(self) -> Sequence[Row]:
        credit = self._credit
        k = max(self._share, key=credit.__getitem__)
        begin, rows, sums = self._at[k], self._rows[k], self._sums[k]
        end = self._at[k] = min(begin + min(self._each, self._left), len(rows))
        self._left -= end - begin
        n = sums[end] - sums[begin]
        self._drawn += n
        for j, share in self._share.items():
            credit[j] += share * n
        credit[k] -= self._whole * n
        if end == len(rows):
            self._exhausted.append((self._taken, k))
            self._share_out()
        return rows[begin:end]

    def _share_out(self) -> None:
        """Share all weight among the domains with rows left, the larger weight first: of equal credits the first is drawn."""
        weights = self._weights
        live = [k for k, rows in enumerate(self._rows) if weights[k] and self._at[k] < len(rows)]
        live.sort(key=weights.__getitem__, reverse=True)
        total = sum([weights[k] for k in live])
        self._share = {k: int(weights[k] / total * _UNIT) or 1 for k in live}
        self._whole = sum(self._share.values())


def _check_left(taken: int, n_steps: int) -> None:
    if taken >= n_steps:
        raise FaultError("all steps are taken", where="order", expected=f"{n_steps} steps", got=f"step {taken}")


def _check_fits(fits: bool, got: object, *, expected: str) -> None:
    if not fits:
        raise FaultError("the state of another order", where="order", expected=expected, got=got)
