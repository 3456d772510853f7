"""What a law predicts of runs that it has not seen, beside the predictor that says the mean of the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from composer.errors import InputError
from composer.small_runs.forms import FORMS, Fitted, Matrix, Vector, fit
from composer.small_runs.region import Shares

LUCK = 0.1  # in noise a quarter of all laws err less than the mean, and one in twenty with a p value below this


@dataclass(frozen=True)
class Error:
    """Root mean square errors of runs that were left out: of the law, and of the mean of the other runs."""

    law: float
    mean: float

    @property
    def r2(self) -> float:
        """``1 - law^2 / mean^2``: 1 where the law errs nowhere, 0 where it is as good as the mean, below 0 where worse."""
        return 1 - (self.law / self.mean) ** 2 if self.mean else 0.0


@dataclass(frozen=True)
class Validation:
    """A law with what its predictions of left-out runs are worth; see :func:`validate`.

    ``errors`` are those of every form in the objective; ``chosen`` is the error of choosing among them, run by run from the
    other runs; ``by_domain`` the errors of the law's form in every measured domain. ``left_out`` are the laws without one run
    each, ``residuals`` (n,) what they miss of that run's objective. ``p`` is the chance of so much less error than the mean's
    by luck alone, by a one-sided paired t test of the squared errors; it is rough, since left-out runs share the others.
    """

    law: Fitted
    errors: dict[str, Error]
    chosen: Error
    by_domain: tuple[Error, ...]
    p: float
    left_out: tuple[Fitted, ...]
    residuals: Vector

    @property
    def predicts(self) -> bool:
        """Whether the law is better than the mean of the runs, and luck alone would seldom do as well."""
        return self.chosen.r2 > 0 and self.p < LUCK


def validate(shares: Shares, values: Matrix, objective: Vector) -> Validation:
    """Return the law of the form that errs least in left-out runs, with what it is worth.

    Every form is fitted without each run in turn. The law has the form of least error; but the least of several errors is
    too low by the choice, so ``chosen`` is that of the form which errs least in the *other* runs, for each run. The mean of the
    other runs is the predictor to beat.

    Parameters
    ----------
    shares
        (n, D) shares of the runs.
    values
        (n, K) what was measured, not negative, the less the better.
    objective
        (K,) the weights of what is to be made small: ``values @ objective``.

    Raises
    ------
    InputError
        For runs without a finite value, or fewer of them than three more than domains.

    References
    ----------
    Stone, Cross-Validatory Choice and Assessment of Statistical Predictions (1974), for choosing and assessing apart.
    """
    n, n_domains = shares.shape
    if n < fewest(n_domains) or not (np.isfinite(values).all() and np.isfinite(shares).all()):
        expected = f"{fewest(n_domains)} finite runs or more"
        raise InputError("runs from which no law can be told", where="runs", expected=expected, got=n)
    wanted = values @ objective
    means = (values.sum(axis=0) - values) / (n - 1)
    laws = {form: [fit(form, np.delete(shares, i, 0), np.delete(values, i, 0)) for i in range(n)] for form in FORMS}
    said = {form: np.vstack([law(shares[i : i + 1]) for i, law in enumerate(own)]) for form, own in laws.items()}
    missed = {form: wanted - each @ objective for form, each in said.items()}
    by_others = wanted - means @ objective
    by_mean = _rms(by_others)
    errors = {form: Error(_rms(each), by_mean) for form, each in missed.items()}
    best = min(errors, key=lambda form: errors[form].law)
    chosen = _chosen_by_others(missed)
    law_errors = zip((values - said[best]).T, (values - means).T, strict=True)
    return Validation(
        law=fit(best, shares, values), errors=errors, chosen=Error(_rms(chosen), by_mean),
        by_domain=tuple(Error(_rms(a), _rms(b)) for a, b in law_errors), p=_by_luck(by_others**2 - chosen**2),
        left_out=tuple(laws[best]), residuals=missed[best],
    )  # fmt: skip


def fewest(n_domains: int) -> int:
    """Return of how few runs a law can be told: one more than the exponential law has parameters, when one is left out."""
    return n_domains + 3


def _chosen_by_others(missed: dict[str, Vector]) -> Vector:
    """Return what the form that errs least in the other runs misses of every run."""
    every = np.array(list(missed.values()))
    others = (every**2).sum(axis=1, keepdims=True) - every**2
    return np.asarray(every[others.argmin(axis=0), np.arange(every.shape[1])])


def _by_luck(gained: Vector) -> float:
    """Return the p value of a mean above zero."""
    from scipy.special import stdtr

    spread = float(gained.std(ddof=1)) / np.sqrt(gained.size)
    return float(stdtr(gained.size - 1, -gained.mean() / spread)) if spread else 1.0


def _rms(values: Vector) -> float:
    return float(np.sqrt(np.mean(values**2)))
