"""The exact Wasserstein distance between two clouds, InsCL's measure of how far apart two tasks lie."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from composer.errors import SpecError
from composer.similarity.base import Cloud, Distance, Estimate
from composer.similarity.transport import Cost, transport


class Wasserstein(Distance):
    """``W(a, b) = min over pi of sum_uv pi_uv C_uv``, pi >= 0 with the weights of a and b as its row and column sums.

    The cost is ``1 - cos`` in [0, 2] or the Euclidean distance. The linear programme is solved exactly: large ones through a
    few of their pairs, with a dual that is checked on all (:mod:`composer.similarity.certified`). Time and memory grow as m^2
    and faster, so clouds of more than ``max_points`` points are refused. The cosine
    cost makes W no metric: the triangle inequality does not hold.

    Raises
    ------
    SpecError
        For clouds that are too large.
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
    summary: ClassVar[str] = "exact optimal transport between the instructions of two domains"

    cost: Cost = "cosine"
    max_points: int = Field(default=4000, ge=1)

    def estimate(self, a: Cloud, b: Cloud) -> Estimate:
        """Return the exact distance."""
        if max(len(a), len(b)) > self.max_points:
            most, got = f"at most {self.max_points} points", f"{len(a)} and {len(b)}"
            hint = "use {name: subsampled}, or raise max_points if there is memory for 50 bytes per pair of points"
            raise SpecError("clouds too large to solve exactly", where="distance", expected=most, got=got, hint=hint)
        return Estimate(transport(a, b, cost=self.cost), 0.0)
