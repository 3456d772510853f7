"""The Wasserstein distance of large clouds, from exact solutions on subsamples, with its standard error and its excess."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from composer.similarity.base import Cloud, Distance, Estimate
from composer.similarity.potentials import Device
from composer.similarity.transport import Cost, transport
from composer.spec import outside_identity, rng


class Subsampled(Distance):
    """The mean of ``repeats`` exact distances between subsamples of ``points`` draws each.

    A subsample is drawn systematically: the points stand on a line in random order, each as long as its weight, and a comb of
    ``points`` equally spaced teeth with a random start is laid over it. A point of weight w is then drawn w * points times give
    or take less than one, so no light point comes twice. A cloud of at most ``points`` points is taken whole, with its weights.
    Repeat r of a cloud is the same subsample in every pair, so that what is made of all pairs (shares of replay) can be made of
    every repeat, and its error read off the repeats. The distance of a cloud to itself is zero.

    W is convex in the pair of clouds, so the expectation is never below the exact distance: a subsample lacks the best partners
    of many points. The standard error does not cover this. ``excess`` shows its scale: the same estimate from subsamples of
    half as many points, less this one, so by how much the estimate still fell when the size was last doubled. It is no bound
    and no correction: more than it remains where the estimate falls slowly with the size, as in many dimensions, and it is as
    noisy as the estimate. All pairs are measured with one size, since the shift falls with the size: pairs that share it are
    compared fairly, and between two sizes it would be taken for a distance. Between clouds that are taken whole there is none.

    A pair costs ``repeats`` exact solutions at ``points`` and as many at half, about a fifth more, however large the clouds
    are; drawing takes one pass over the weights. Whole small clouds are solved once.

    References
    ----------
    Sommerfeld, Schrieber, Zemel and Munk, arXiv:1802.05570 (exact transport on subsamples).
    """

    name: Literal["subsampled"] = "subsampled"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, on systematic subsamples"
    summary: ClassVar[str] = "mean of exact transports between subsamples, with its standard error; for any size"

    cost: Cost = "cosine"
    points: int = Field(default=1000, ge=2, le=10_000)
    repeats: int = Field(default=3, ge=2)
    seed: int = 0
    device: Device = outside_identity("auto")

    def measure(self, a: Cloud, b: Cloud) -> Estimate:
        """Return the mean over the repeats, its standard error, the repeats and the excess."""
        if max(len(a), len(b)) <= self.points:
            value = transport(a, b, cost=self.cost, device=self.device)
            return Estimate(value, 0.0, repeats=(value,) * self.repeats, excess=0.0)
        values = self._values(a, b, self.points)
        fewer = self._values(a, b, self.points // 2)
        value, stderr = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(self.repeats))
        return Estimate(value, stderr, repeats=tuple(values), excess=float(np.mean(fewer)) - value)

    def _values(self, a: Cloud, b: Cloud, points: int) -> list[float]:
        draws = ((self._draw(a, repeat, points), self._draw(b, repeat, points)) for repeat in range(self.repeats))
        return [transport(x, y, cost=self.cost, device=self.device) for x, y in draws]

    def _draw(self, cloud: Cloud, repeat: int, points: int) -> Cloud:
        if len(cloud) <= points:
            return cloud
        generator = rng(self.seed, "subsample", repeat)
        teeth = (np.arange(points) + generator.random()) / points
        order = generator.permutation(len(cloud))
        place = np.searchsorted(np.cumsum(cloud.weights[order]), teeth, side="right")
        drawn = order[np.minimum(place, len(cloud) - 1)]
        return Cloud(cloud.vectors[drawn])
