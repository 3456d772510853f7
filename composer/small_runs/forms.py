"""The forms that a law of losses may have: how what is measured of every domain follows from the shares of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from composer.small_runs.design import scheffe
from composer.small_runs.region import Shares

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

PENALTIES = np.logspace(-9, 3, 25)
STARTS = (0.02, 0.1, 0.5, 2.0)  # how far below the least value the constant may begin, in spreads of the values
EVALUATIONS = 100  # of one fit; what takes more runs along a valley that changes no prediction
_HIGHEST = 50.0  # of an exponent


@dataclass(frozen=True)
class Fitted:
    """A law: ``offset_k + z_k`` or ``offset_k + exp(z_k)`` with ``z = terms(shares) slopes'`` for K measured domains.

    ``offset`` is (K,), ``slopes`` (K, P) with the P terms of the form.
    """

    form: str
    offset: Vector
    slopes: Matrix

    def __call__(self, shares: Shares) -> Matrix:
        """Return (n, K) predictions of (n, D) shares."""
        form = FORMS[self.form]
        z = form.terms(shares) @ self.slopes.T
        return np.asarray(self.offset + (np.exp(np.minimum(z, _HIGHEST)) if form.bends else z), dtype=np.float64)


@dataclass(frozen=True)
class Form:
    """A form: its formula in words, its terms, and whether they stand in an exponent."""

    said: str
    terms: Callable[[Shares], Matrix]
    bends: bool = False


FORMS: dict[str, Form] = {
    "linear": Form("a + sum_j b_j r_j, shrunk to the mean", np.asarray),
    "quadratic": Form("a + sum_j b_j r_j + sum_ij b_ij r_i r_j, shrunk to the mean", scheffe),
    "exponential": Form("c + exp(sum_j t_j r_j)", np.asarray, bends=True),
}
"""The forms; ``linear`` and ``quadratic`` are ridge regressions as RegMix's, ``exponential`` is the law of data mixing."""


def fit(form: str, shares: Shares, values: Matrix) -> Fitted:
    """Return the law of a form that fits the runs, for every measured domain by itself.

    The penalty of a ridge regression is that of least leave-one-out error; as it grows, the law becomes the mean of the runs.
    The exponential law ``c_k + exp(sum_j t_kj r_j)`` has ``0 <= c_k <= min y`` and is fitted by least squares; a factor above
    zero, as in the published form ``c + k exp(sum_j t_j r_j)``, is in it, since shares sum to one.

    Parameters
    ----------
    form
        A word of :data:`FORMS`.
    shares
        (n, D) shares of the runs.
    values
        (n, K) what was measured of K domains, not negative, the less the better.

    References
    ----------
    Data Mixing Laws, Ye et al. 2024, arXiv:2403.16952; RegMix, Liu et al. 2024, arXiv:2407.01492;
    Scheffe, Experiments with Mixtures (1958).

    Examples
    --------
    >>> shares = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.2, 0.8]])
    >>> fit("exponential", shares, 1 + np.exp(shares @ [[-2.0], [1.0]]))(np.array([[0.6, 0.4]])).round(4).tolist()
    [[1.4493]]
    """
    if FORMS[form].bends:
        pairs = [_exponential(shares, values[:, k]) for k in range(values.shape[1])]
        return Fitted(form, np.array([c for c, _ in pairs]), np.array([t for _, t in pairs]))
    return _ridge(form, shares, values)


def _ridge(form: str, shares: Shares, values: Matrix) -> Fitted:
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=PENALTIES, alpha_per_target=True).fit(FORMS[form].terms(shares), values)
    slopes = np.reshape(model.coef_, (values.shape[1], -1))
    return Fitted(form, np.reshape(model.intercept_, values.shape[1]), slopes)


def _exponential(shares: Shares, y: Vector) -> tuple[float, Vector]:
    """Return the constant and the exponents of one domain; the constant is ``1 / (1 + exp(-x_0))`` of the least value."""
    from scipy.optimize import least_squares
    from scipy.special import expit, logit

    top = max(float(y.min()), 1e-9)

    def bent(x: Vector) -> Vector:
        return np.asarray(np.exp(np.minimum(shares @ x[1:], _HIGHEST)))

    def residuals(x: Vector) -> Vector:
        return np.asarray(top * expit(x[0]) + bent(x) - y)

    def slopes(x: Vector) -> Matrix:
        part = float(expit(x[0]))
        return np.column_stack([np.full_like(y, top * part * (1 - part)), bent(x)[:, None] * shares])

    def begin(gap: float) -> Vector:
        """A law that is linear in the logarithm, about a constant a little below all values."""
        c = float(np.clip(y.min() - gap * max(float(np.ptp(y)), 1e-6), 0.001 * top, 0.999 * top))
        t = np.linalg.lstsq(shares, np.log(np.maximum(y - c, 1e-9)), rcond=None)[0]
        return np.concatenate([[logit(c / top)], t])

    first = min(map(begin, STARTS), key=lambda x: float(np.sum(residuals(x) ** 2)))
    found = least_squares(residuals, first, jac=slopes, method="lm", max_nfev=EVALUATIONS)
    return top * float(expit(found.x[0])), np.asarray(found.x[1:])
