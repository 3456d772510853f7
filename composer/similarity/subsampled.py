"""The Wasserstein distance of large clouds, from several exact solutions on subsamples, with its standard error."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from composer.similarity.base import Cloud, Distance, Estimate
from composer.similarity.transport import Cost, transport
from composer.spec import rng


class Subsampled(Distance):
    """The mean of ``repeats`` exact distances between subsamples of ``points`` draws each.

    A subsample is drawn systematically: the points stand on a line in random order, each as long as its weight, and a comb of
    ``points`` equally spaced teeth with a random start is laid over it. A point of weight w is then drawn w * points times give
    or take less than one, so no light point comes twice. A cloud of at most ``points`` points is taken whole, with its weights.

    W is convex in the pair of clouds, so the expectation is never below the exact distance; the excess shrinks as ``points``
    grows. Both clouds are drawn with the same random numbers, so the distance of a cloud to itself is zero.
    """

    name: Literal["subsampled"] = "subsampled"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, on systematic subsamples"
    summary: ClassVar[str] = "mean of exact transports between subsamples, with its standard error; for any size"

    cost: Cost = "cosine"
    points: int = Field(default=1000, ge=2, le=4000)
    repeats: int = Field(default=3, ge=2)
    seed: int = 0

    def estimate(self, a: Cloud, b: Cloud) -> Estimate:
        """Return the mean over the repeats and its standard error, which does not cover the excess."""
        if max(len(a), len(b)) <= self.points:
            return Estimate(transport(a, b, cost=self.cost), 0.0)
        draws = ((self._draw(a, repeat), self._draw(b, repeat)) for repeat in range(self.repeats))
        values = [transport(x, y, cost=self.cost) for x, y in draws]
        return Estimate(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(self.repeats)))

    def _draw(self, cloud: Cloud, repeat: int) -> Cloud:
        if len(cloud) <= self.points:
            return cloud
        generator = rng(self.seed, "subsample", repeat)
        teeth = (np.arange(self.points) + generator.random()) / self.points
        order = generator.permutation(len(cloud))
        place = np.searchsorted(np.cumsum(cloud.weights[order]), teeth, side="right")
        drawn = order[np.minimum(place, len(cloud) - 1)]
        return Cloud(cloud.vectors[drawn])
