"""Calibration: make a judge's probabilities mean what they say, with the few numbers that some hundred texts can settle.

``q_j = exp(a log p_j + b_j) / sum_i exp(a log p_i + b_i)``. The slope ``a`` is one over a temperature: it takes back too much
or too little confidence. The offsets ``b`` divide by the prior: what a model answers before it has looked at the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.knowledge.judges.examples import folds
from probes.knowledge.judges.held_out import HeldOut


@dataclass(frozen=True, eq=False)
class Scaling:
    """One slope, and an offset (D,) for each domain.

    Examples
    --------
    >>> Scaling(2.0, np.zeros(2)).apply(np.log([[0.75, 0.25]])).round(6).tolist()
    [[0.9, 0.1]]
    """

    slope: float
    offset: np.ndarray

    def apply(self, log_p: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (..., D) for natural log-probabilities of the same shape."""
        return np.asarray(np.exp(log_softmax(self.slope * log_p + self.offset)))


def learn(log_p: np.ndarray, label: np.ndarray, *, offsets: bool, times: np.ndarray | None = None) -> Scaling:
    """Return the scaling of the greatest likelihood on held-out texts, with equal weight for every domain.

    With ``offsets`` the mean probabilities over the texts, domains weighing the same, are then all 1/D: no answer is preferred.
    Without, the most likely domain of a text stays the same. ``times`` counts texts more than once. The wanted probability of
    the true domain is ``(m + 1/D) / (m + 1)`` for ``m`` texts a domain and not 1, so that a judge without a mistake does not
    become certain.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017, section 4.2 (the slope alone). Alexandari et al., Maximum
    likelihood with bias-corrected calibration is hard-to-beat at label shift adaptation, ICML 2020, section 3 (with offsets).
    Platt, Probabilistic outputs for support vector machines, 1999, section 2.2 (the wanted probabilities).
    """
    from scipy.optimize import minimize

    n_domains = log_p.shape[1]
    counts = np.ones(len(label)) if times is None else times
    weight = counts / (n_domains * np.bincount(label, counts)[label])
    m = len(label) / n_domains
    wanted = (m * np.eye(n_domains)[label] + 1 / n_domains) / (m + 1)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        log_q = log_softmax(x[0] * log_p + x[1:])
        miss = weight[:, None] * (np.exp(log_q) - wanted)
        return float(-weight @ (wanted * log_q).sum(axis=1)), np.array([(miss * log_p).sum(), *miss.sum(axis=0)])

    bounds = [(0, None), *[(None, None) if offsets else (0, 0)] * n_domains]
    start = np.array([1.0, *np.zeros(n_domains)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9}).x
    return Scaling(float(found[0]), found[1:])


def cross_fit(log_p: np.ndarray, label: np.ndarray, *, offsets: bool, seed: int) -> HeldOut:
    """Return the texts with probabilities that were calibrated on the others: each fifth by what the rest taught."""
    probability = np.zeros_like(log_p)
    for known, new in folds(label, seed=seed):
        probability[new] = learn(log_p[known], label[known], offsets=offsets).apply(log_p[new])
    return HeldOut(probability, label)


def log_softmax(values: np.ndarray) -> np.ndarray:
    """Return values (..., D) less what makes their exponentials sum to one."""
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
