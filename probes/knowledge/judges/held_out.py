"""What a judge says of reference texts that it did not learn from, and what follows for how far it can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from composer.errors import ModelError

_CHANCE = 1.5  # times 1/D: a judge that is no better than this tells nothing
_BINS = 10
_LEAST = 1e-15  # a probability that rounding made zero is not taken for an infinite loss


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Probabilities (n, D) of n texts and their true domain numbers (n,); every domain weighs the same, however many it has.

    Examples
    --------
    >>> held_out = HeldOut(np.array([[0.8, 0.2], [0.4, 0.6], [0.6, 0.4]]), np.array([0, 0, 1]))
    >>> held_out.accuracy, held_out.confusion.round(6).tolist()
    (0.25, [[0.6, 0.6], [0.4, 0.4]])
    """

    probability: np.ndarray
    label: np.ndarray

    @property
    def accuracy(self) -> float:
        """The mean over domains of the share of texts that are recognised."""
        found = self.probability.argmax(axis=1)
        return float(np.mean([(found[self.label == j] == j).mean() for j in range(self.probability.shape[1])]))

    @property
    def confusion(self) -> np.ndarray:
        """Float64 (D, D): entry (i, j) is the mean probability of domain i for texts of domain j."""
        members = np.eye(self.probability.shape[1])[self.label]
        return np.asarray(self.probability.T @ members / members.sum(axis=0))

    @property
    def weight(self) -> np.ndarray:
        """What a text weighs, (n,): each domain 1/D, all together 1."""
        counts = np.bincount(self.label)
        return np.asarray(1 / (len(counts) * counts[self.label]))

    @property
    def log_loss(self) -> float:
        """The mean over domains of the mean ``-log p`` of the true domain, in nats; ``log D`` is what equal shares cost."""
        true = self.probability[np.arange(len(self.label)), self.label]
        return float(self.weight @ -np.log(np.maximum(true, _LEAST)))

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: over ten bins of confidence, how far the share of right answers is from it.

        ``sum_b |sum_(i in b) w_i (right_i - confidence_i)|`` (Guo et al., ICML 2017, section 2), with the weights of texts.
        """
        confidence = self.probability.max(axis=1)
        gap = self.weight * ((self.probability.argmax(axis=1) == self.label) - confidence)
        bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
        return float(np.abs(np.bincount(bins, gap, minlength=_BINS)).sum())

    def figures(self) -> dict[str, Any]:
        """Return accuracy, loss and calibration error, and the number of texts they come from."""
        return {
            "accuracy": self.accuracy,
            "log_loss": self.log_loss,
            "calibration_error": self.calibration_error,
            "n_texts": len(self.label),
        }

    def refuse_chance(self) -> None:
        """Raise where the accuracy says that the judge guesses.

        Raises
        ------
        ModelError
            Where the accuracy is not above 1.5/D, with the number.
        """
        n_domains = self.probability.shape[1]
        if self.accuracy <= _CHANCE / n_domains:
            raise ModelError(
                "the judge cannot tell the domains apart", where="probe.judge", expected=f"above {_CHANCE / n_domains:.3f}",
                got=f"accuracy {self.accuracy:.3f} over {n_domains} domains",
                hint="give more or clearer reference texts, or another judge",
            )  # fmt: skip
