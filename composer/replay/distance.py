"""InsCL's dynamic replay: the farther an earlier domain lies from the current ones, the more of it comes back."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from composer.errors import SpecError
from composer.replay.base import ReplayPolicy
from composer.types import ReplayContext, SimilarityMatrix, array


class DistanceReplay(ReplayPolicy):
    """Earlier domain j gets ``W_{j,i} / sum_r W_{r,i}`` of the total, W being the distance to what is trained now.

    With several current domains, ``W_{j,i}`` is the mean of the distances to them by their weights. Where all distances are
    zero the shares are equal. ``inverse`` is the control that gives more to near domains: ``1 / W_{j,i}`` in place of W, or
    everything to those at distance zero where there are such.

    Examples
    --------
    >>> from composer.types import ReplayContext, SimilarityMatrix
    >>> w = SimilarityMatrix(domains=("a", "b", "c"), value=((0, 0.2, 0.1), (0.2, 0, 0.3), (0.1, 0.3, 0)), measure="example")
    >>> stage = ReplayContext(
    ...     stage=2, earlier=("a", "b"), current=("c",), weights=(1.0,), available=(900, 900), similarity=w
    ... )
    >>> DistanceReplay(per_task=200).amounts(stage).tolist()
    [100, 300]
    """

    name: Literal["distance"] = "distance"
    reference: ClassVar[str] = "InsCL, arXiv:2403.11435, dynamic replay"
    summary: ClassVar[str] = "more of the domains that lie farther from the current ones, informative instructions first"
    needs: ClassVar[frozenset[str]] = frozenset({"similarity"})
    natural_select: ClassVar[dict[str, Any]] = {"name": "instruction", "score": "insinfo"}

    inverse: bool = False

    def shares(self, context: ReplayContext) -> NDArray[np.float64]:
        """Return the mean distance of each earlier domain to the current ones."""
        matrix = cast("SimilarityMatrix", context.similarity)
        if matrix.kind != "distance":
            raise SpecError("replay by distance needs distances", where="replay.name", expected="distance", got=matrix.kind)
        if missing := [d for d in (*context.earlier, *context.current) if d not in matrix.domains]:
            known = ", ".join(matrix.domains)
            raise SpecError("no distance to a domain", where="replay.name", expected=f"among {known}", got=", ".join(missing))
        distance = array(tuple(matrix.between(j, i) for i in context.current) for j in context.earlier)
        mean = np.asarray(distance @ array(context.weights), dtype=np.float64)
        if self.inverse:
            return np.asarray(1 / mean if mean.all() else mean == 0, dtype=np.float64)
        return mean if mean.any() else np.ones(len(context.earlier))
