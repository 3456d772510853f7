"""What fitted judges share: figures from held-out texts, the correction, and a report of both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from composer.progress import say
from probes.knowledge.judges.correction import Transfer, invert, transfer
from probes.knowledge.judges.held_out import HeldOut

_STRONG = 0.95


class Fitted(ABC):
    """See :class:`probes.knowledge.judges.FittedJudge`; a member says how it judges.

    ``likeness`` are the held-out texts as the judge itself judges them, where the judges of ``held_out`` were others.
    """

    def __init__(
        self, held_out: HeldOut, *, correct: bool, calibration: Mapping[str, Any], likeness: HeldOut | None = None
    ) -> None:
        held_out.refuse_chance()
        self.held_out, self.correct, self._likeness = held_out, correct, likeness or held_out
        self.accuracy, self.confusion = held_out.accuracy, held_out.confusion
        self.report: dict[str, Any] = {**held_out.figures(), "calibration": dict(calibration)}

    @abstractmethod
    def _judge(self, texts: Sequence[str]) -> np.ndarray:
        """Return float64 (n, D) rows on the simplex for at least one text."""

    def ahead(self, parts: Iterable[Sequence[str]]) -> None:  # noqa: B027  a judge without a model has nothing to make ready
        """Make ready what :meth:`probabilities` will be asked of one part after the other, where that can be done at once."""

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return float64 (n, D) rows on the simplex."""
        return self._judge(texts) if texts else np.zeros((0, len(self.confusion)))

    def judged(self, probability: np.ndarray) -> dict[str, Any]:
        """Return how many texts were judged so, float64 (n, D), and how like the reference texts they are.

        A correction that does not carry over to these texts, or that a judge has no need of, is told.
        """
        if not len(probability):
            return {"n": 0}
        carried = transfer(self._likeness, probability)
        if self.correct:
            self._warn(carried)
        return {"n": len(probability), "transfer": carried.figures()}

    def _warn(self, carried: Transfer) -> None:
        if not carried.holds:
            say(
                f"warning: the judge is not as sure of these texts as of the reference texts (distance {carried.distance:.2f}, "
                f"limit {carried.limit:.2f}): the correction may do harm; set judge.correct to false"
            )
        elif self.accuracy > _STRONG:
            say(
                f"warning: a judge of accuracy {self.accuracy:.3f} needs no correction, which then adds noise; "
                "set judge.correct to false"
            )

    def shares(self, mean: np.ndarray) -> np.ndarray:
        """Return ``mean`` itself, or with ``correct`` the shares that explain it through the confusion matrix."""
        if not self.correct:
            return mean
        return np.apply_along_axis(lambda m: invert(self.confusion, m), -1, mean)
