"""A linear classifier over words: learns from reference texts in seconds and needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from composer.errors import ModelError, SourceError
from composer.spec import rng, seed_of
from probes.knowledge.judges import Judge

_FOLDS = 5
_CHANCE = 1.5  # times 1/D: a judge that is no better than this tells nothing
_C = 100.0  # of 1, 10 and 100 the lowest held-out log-loss on six real domains, with 30, 200 and 1000 texts of each


class Classifier(Judge):
    """Logistic regression on TF-IDF of words and word pairs, with balanced domains.

    Of a text the first ``max_chars`` characters are read, of a domain at most ``max_texts`` distinct texts, drawn by the seed.

    With ``correct`` the shares solve ``min_p |C p - m|`` over the simplex, where ``m`` are the mean probabilities and ``C`` is
    the confusion matrix. Correct a weak judge and leave a strong one alone: on a model of known training mixture a judge of
    accuracy 0.89 gained much by it and one of 0.99 lost a little. Where generated texts look unlike the reference texts, the
    confusion of the one says little about the other and the correction does harm.

    References
    ----------
    Saerens et al., Adjusting the outputs of a classifier to new a priori probabilities, Neural Computation 14 (2002), section
    2.3 (the confusion matrix method). VersaTune (2411.11266) uses a language model as its judge.
    """

    reference: ClassVar[str] = "Saerens et al. 2002, section 2.3; in place of the judge of VersaTune (2411.11266)"
    summary: ClassVar[str] = "TF-IDF and logistic regression on reference texts, cross-validated"

    name: Literal["classifier"] = "classifier"
    correct: bool = False
    max_chars: int = Field(default=2000, ge=1)
    max_texts: int = Field(default=500, ge=_FOLDS)

    def fit(self, texts: Sequence[str], labels: Sequence[str], *, domains: Sequence[str], seed: int) -> FittedClassifier:
        """Learn from reference texts; neither their order nor repeated ones matter.

        Raises
        ------
        SourceError
            Where a domain has fewer than five distinct texts, or a label is no domain.
        ModelError
            Where the cross-validated accuracy is not above 1.5/D.
        """
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

        kept, y = self._examples(texts, labels, domains=domains, seed=seed)
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed_of(seed, "judge", "folds"))
        held_out = cross_val_predict(_pipeline(), kept, y, cv=folds, method="predict_proba")
        members = np.eye(len(domains))[y]
        confusion = held_out.T @ members / members.sum(axis=0)
        accuracy = float(np.mean([(held_out[y == j].argmax(axis=1) == j).mean() for j in range(len(domains))]))
        if accuracy <= _CHANCE / len(domains):
            raise ModelError(
                "the judge cannot tell the domains apart", where="probe.judge", expected=f"above {_CHANCE / len(domains):.3f}",
                got=f"accuracy {accuracy:.3f} over {len(domains)} domains", hint="give more or clearer reference texts",
            )  # fmt: skip
        return FittedClassifier(_pipeline().fit(kept, y), accuracy, confusion, self.max_chars, self.correct)

    def _examples(
        self, texts: Sequence[str], labels: Sequence[str], *, domains: Sequence[str], seed: int
    ) -> tuple[list[str], np.ndarray]:
        """Return texts and domain numbers, domain after domain."""
        if unknown := sorted(set(labels) - set(domains)):
            raise SourceError("reference texts of an unknown domain", got=unknown[0], expected=", ".join(domains))
        if len(domains) < 2:
            raise SourceError("a judge tells domains apart", expected="at least two domains", got=len(domains))
        kept: list[str] = []
        y: list[int] = []
        for j, domain in enumerate(domains):
            own = {text[: self.max_chars] for text, label in zip(texts, labels, strict=True) if label == domain}
            distinct = sorted(text for text in own if text.strip())
            if len(distinct) < _FOLDS:
                raise SourceError(
                    "too few reference texts", where=f"domain {domain}", expected=f"at least {_FOLDS} distinct ones",
                    got=len(distinct), hint="add a source of role reference or target for it",
                )  # fmt: skip
            chosen = rng(seed, "judge", "texts", domain).permutation(len(distinct))[: self.max_texts]
            kept += [distinct[i] for i in sorted(chosen)]
            y += [j] * len(chosen)
        return kept, np.array(y)


@dataclass(frozen=True, eq=False)
class FittedClassifier:
    """See :class:`probes.knowledge.judges.FittedJudge`."""

    pipeline: Any
    accuracy: float
    confusion: np.ndarray
    max_chars: int
    correct: bool

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return float64 (n, D) rows on the simplex."""
        if not texts:
            return np.zeros((0, len(self.confusion)))
        return np.asarray(self.pipeline.predict_proba([text[: self.max_chars] for text in texts]), dtype=np.float64)

    def shares(self, mean: np.ndarray) -> np.ndarray:
        """Return ``mean`` itself, or with ``correct`` the shares that explain it through the confusion matrix."""
        if not self.correct:
            return mean
        return np.apply_along_axis(lambda m: invert(self.confusion, m), -1, mean)


def invert(confusion: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the p on the simplex with the least ``|C p - m|``; ``C`` (D, D) has columns that sum to 1, ``m`` (D,) sums to 1.

    On the simplex ``C p - m = (C - m 1') p``, so p is the shortest point of a convex hull. Least squares over ``x >= 0`` of
    ``(C - m 1') x = 0, 1' x = 1`` has the same direction, whatever the length, hence one call and no weight to choose.

    References
    ----------
    Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.

    Examples
    --------
    >>> confusion = np.array([[0.8, 0.4], [0.2, 0.6]])
    >>> invert(confusion, confusion @ [0.25, 0.75]).round(6).tolist()
    [0.25, 0.75]
    """
    from scipy.optimize import nnls

    rows = np.vstack([confusion - mean[:, None], np.ones(len(mean))])
    x, _ = nnls(rows, np.append(np.zeros(len(mean)), 1.0))
    return np.asarray(x / x.sum())


def _pipeline() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_features=65_536)
    return make_pipeline(words, LogisticRegression(C=_C, class_weight="balanced", max_iter=1000))
