"""What judged texts say of the shares and how sure they are of it; and how far two such answers are apart.

Every interval is a bootstrap: the texts are drawn again from the texts. Judges that were fitted on resampled reference texts,
where a judge can give them, add what the choice of those texts does to the shares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from composer.spec import rng, seed_of
from probes.knowledge.bootstrap import N_RESAMPLES, quantiles, resampled
from probes.knowledge.judges import FittedJudge

_RULE_OF_THREE = 3


@dataclass(frozen=True, eq=False)
class Rounds:
    """Which texts belong to which round, and how much of every round was drawn.

    ``of`` is int (n,), the round of every judged text; ``weight`` is float64 (T,), between 0 and 1. The mean over the texts is
    the mean of each round, and then the mean of the rounds: one that a budget cut short counts by what there is of it.
    """

    of: np.ndarray
    weight: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Return the mean, float64 (D,), of the rows of ``values`` (n, D)."""
        return self._over(lambda rows: rows.mean(axis=0), values)

    def resampled(self, values: np.ndarray, random: np.random.Generator, *, n: int = N_RESAMPLES) -> np.ndarray:
        """Return ``n`` means, float64 (n, D), each of as many rows of every round, drawn from them with replacement."""
        return self._over(lambda rows: resampled(rows, random, n=n), values)

    def _over(self, statistic: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
        present = np.unique(self.of)
        each = np.stack([statistic(values[self.of == t]) for t in present])
        return np.asarray(np.average(each, axis=0, weights=self.weight[present]))


@dataclass(frozen=True, eq=False)
class Estimate:
    """Shares, float64 (D,), and the shares of resampled texts, float64 (R, D)."""

    share: np.ndarray
    resamples: np.ndarray

    @property
    def stderr(self) -> np.ndarray:
        """The standard error of every share, float64 (D,)."""
        return np.asarray(self.resamples.std(axis=0, ddof=1))

    @property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """The 2.5 % and the 97.5 % quantile of every share, float64 (D,) each."""
        return quantiles(self.resamples)

    def narrower(self, width: float, *, n: int) -> bool:
        """Return whether ``n`` texts are enough for every 95 % interval to be narrower than ``width``.

        A domain that none of ``n`` texts fell to can have a share of up to 3/n all the same, however narrow its interval looks.

        References
        ----------
        Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 249 (1983), for 3/n.
        """
        low, high = self.interval
        return n * width > _RULE_OF_THREE and bool((high - low < width).all())


def estimate(judge: FittedJudge, probability: np.ndarray, rounds: Rounds, *, seed: int) -> Estimate:
    """Return the shares that the judge's ``probability`` (n, D) speaks for, and those of resampled texts."""
    share = judge.shares(rounds.mean(probability))
    random = rng(seed, "self_generation", "bootstrap")
    return Estimate(share / share.sum(), judge.shares(rounds.resampled(probability, random)))


def interval_with_judge(
    judge: FittedJudge, texts: Sequence[str], rounds: Rounds, found: Estimate, *, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the ends, float64 (D,) each, of 95 % intervals over resampled texts and ``n`` judges of resampled reference texts.

    None is the answer for a judge that cannot be fitted again (it has no ``again(texts, n, seed)``, float64 (n, N, D)). A judge
    of resampled texts has seen fewer distinct ones and is less sure of everything, which is no error of the full one: the
    shares are moved so that their mean is the estimate. The interval is never narrower than that of the texts alone.
    """
    again = getattr(judge, "again", None)
    if again is None or n == 0:
        return None
    random = rng(seed, "self_generation", "judges")
    views: np.ndarray = again(texts, n, seed_of(seed, "self_generation", "again"))
    shares = judge.shares(np.concatenate([rounds.resampled(view, random, n=-(-N_RESAMPLES // n)) for view in views]))
    ends = quantiles(shares - shares.mean(axis=0) + found.share)
    low, high = (np.clip(end, 0, 1) for end in ends)
    return np.minimum(low, found.interval[0]), np.maximum(high, found.interval[1])


@dataclass(frozen=True, eq=False)
class Difference:
    """By how much shares differ, float64 (D,), and their total variation, each with its 95 % interval."""

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    variation: float
    variation_low: float
    variation_high: float


def difference(before: Estimate, after: Estimate, *, seed: int = 0) -> Difference:
    """Return what changed from one estimate to another, taken as independent of each other.

    Sampling alone makes two equal models differ, so the total variation ``v = sum_j |a_j - b_j| / 2`` is too large rather than
    too small. By the triangle inequality it misses the true one by at most the total variation of the errors, whose 95 %
    quantile therefore gives an interval that covers at least what it says: ``v - q`` to ``v + q``, cut at 0 and 1.
    """
    n = min(len(before.resamples), len(after.resamples))
    order = rng(seed, "difference").permutation(len(after.resamples))[:n]  # resamples of one seed would go hand in hand
    again = after.resamples[order] - before.resamples[:n]
    low, high = quantiles(again)
    share = after.share - before.share
    variation = float(np.abs(share).sum() / 2)
    reach = float(np.quantile(np.abs(again - share).sum(axis=1) / 2, 0.95))
    return Difference(share, low, high, variation, max(0.0, variation - reach), min(1.0, variation + reach))
