"""The Wasserstein distance between two clouds, InsCL's measure of how far apart two tasks lie: exact, or a proven interval."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from composer.errors import SpecError
from composer.similarity.base import Cloud, Distance, Estimate
from composer.similarity.interval import interval
from composer.similarity.potentials import Device
from composer.similarity.transport import SMALL, Cost, costs, least
from composer.spec import outside_identity


class Wasserstein(Distance):
    """``W(a, b) = min over pi of sum_uv pi_uv C_uv``, pi >= 0 with the weights of a and b as its row and column sums.

    The cost is ``1 - cos`` in [0, 2] or the Euclidean distance. In the mode ``exact`` the linear programme is solved exactly:
    large ones through a few of their pairs, with a dual that is checked on all (:mod:`composer.similarity.certified`). In the
    mode ``interval`` it is enclosed: ``low`` is what a feasible dual pays, ``high`` what a plan costs, at most ``gap * high``
    apart, and the value is the middle, which is off by half of that at most (:mod:`composer.similarity.interval`). Small clouds
    are solved exactly then as well, and low, value and high are equal.

    Time and memory grow as m^2 and faster, so clouds of more than ``max_points`` points are refused. The cosine cost makes W no
    metric: the triangle inequality does not hold. ``device`` says where potentials are sought; a GPU changes the last digits of
    an exact value, and the ends of an interval by less than the interval's width.

    Raises
    ------
    SpecError
        For clouds that are too large, and a GPU that is not there.
    InputError
        For vectors of zero length under the cosine cost, and clouds of different dimensions.

    Examples
    --------
    >>> u, v = [1.0, 0.0], [0.0, 1.0]
    >>> Wasserstein().between([u, v], [u])
    0.5
    """

    name: Literal["wasserstein"] = "wasserstein"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, task similarity"
    summary: ClassVar[str] = "optimal transport between the instructions of two domains, exact or within a proven interval"

    cost: Cost = "cosine"
    mode: Literal["exact", "interval"] = "exact"
    gap: float = Field(default=0.005, gt=0, lt=1)
    max_points: int = Field(default=4000, ge=1)
    device: Device = outside_identity("auto")

    def measure(self, a: Cloud, b: Cloud) -> Estimate:
        """Return the exact distance, or the middle of the interval with its ends."""
        if max(len(a), len(b)) > self.max_points:
            most, got = f"at most {self.max_points} points", f"{max(len(a), len(b))} and {min(len(a), len(b))}"
            hint = "use {name: subsampled}, or raise max_points if there is memory for 50 bytes per pair of points"
            raise SpecError("clouds too large to solve exactly", where="distance", expected=most, got=got, hint=hint)
        price = costs(a.vectors, b.vectors, cost=self.cost)
        if a.digest == b.digest:
            low = high = 0.0
        elif self.mode == "exact" or min(len(a), len(b)) <= SMALL:
            low = high = least(price, a.weights, b.weights, device=self.device)
        else:
            low, high = interval(price, a.weights, b.weights, gap=self.gap, device=self.device)
        if self.mode == "exact":
            return Estimate(low, 0.0)
        return Estimate(low + (high - low) / 2, 0.0, low=low, high=high)
