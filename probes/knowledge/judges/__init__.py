"""Judges: which domain a text belongs to, as a probability for each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from composer.spec import Spec
from probes.engines import Session


class FittedJudge(Protocol):
    """A judge that has seen reference texts of D domains; every vector is in their order.

    ``accuracy`` is cross-validated, the mean over domains of the share of texts that are recognised: 1/D is guessing.
    ``confusion`` is float64 (D, D): entry (i, j) is the cross-validated mean probability of domain i for texts of domain j, so
    its columns sum to 1.
    """

    @property
    def accuracy(self) -> float:
        """The cross-validated accuracy."""

    @property
    def confusion(self) -> np.ndarray:
        """The cross-validated confusion matrix."""

    @property
    def report(self) -> Mapping[str, Any]:
        """Plain JSON values: how well the judge does on held-out texts."""

    def ahead(self, parts: Iterable[Sequence[str]]) -> None:
        """Make ready what :meth:`probabilities` will be asked of one part after the other, where that can be done at once."""

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return float64 (n, D) rows on the simplex."""

    def judged(self, probability: np.ndarray) -> Mapping[str, Any]:
        """Return what there is to say, in plain JSON values, of all texts together that were judged so, float64 (n, D)."""

    def again(self, texts: Sequence[str], n: int, seed: int) -> np.ndarray:
        """Return float64 (n, N, D): the same texts judged by ``n`` judges that learnt from resamples of the reference texts."""

    def shares(self, mean: np.ndarray) -> np.ndarray:
        """Return the domain shares, float64 (..., D), that mean probabilities of the same shape speak for."""


class Judge(Spec):
    """A way to tell domains apart."""

    name: str
    summary: ClassVar[str]
    reference: ClassVar[str]

    @abstractmethod
    def fit(
        self, texts: Sequence[str], labels: Sequence[str], *, domains: Sequence[str], seed: int, session: Session | None = None
    ) -> FittedJudge:
        """Learn from reference texts and their domains; ``session`` is the probed model, for a judge that asks it."""


from probes.knowledge.judges.classifier import Classifier  # noqa: E402  members build on what stands above
from probes.knowledge.judges.llm import Llm  # noqa: E402

JUDGES: dict[str, type[Judge]] = {"classifier": Classifier, "llm": Llm}
