"""Which mixtures to run: few points of a region from which a law can be told.

Both designs are drawn over the domains in the order of their names, so that the order in which a recipe lists them changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from composer.errors import InputError
from composer.small_runs.region import Region, Shares
from composer.spec import rng

Design = Literal["d_optimal", "random"]

CANDIDATES = 2_000  # beside the corners and the middles of edges, for regions whose corners are cut
ROUNDS = 10  # of exchanges; few are made
_LITTLE = 1e-6  # the prior precision of the linear terms, for designs of fewer points than domains


def scheffe(shares: Shares) -> NDArray[np.float64]:
    """Return the terms of a quadratic mixture: the shares ``r_j``, and ``4 r_i r_j`` for i < j, each at most one.

    Parameters
    ----------
    shares
        (n, D) shares.

    Returns
    -------
    (n, D + D (D - 1) / 2) float64.

    References
    ----------
    Scheffe, Experiments with Mixtures (1958).

    Examples
    --------
    >>> scheffe(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist()
    [[0.5, 0.5, 1.0], [1.0, 0.0, 0.0]]
    """
    pairs = [4 * shares[:, i] * shares[:, j] for i, j in combinations(range(shares.shape[1]), 2)]
    return np.column_stack([shares, *pairs])


def log_determinant(shares: Shares) -> float:
    """Return how much a design can tell of a quadratic mixture: ``ln det(X' X + K)`` with the terms X of :func:`scheffe`.

    K is the prior precision, 1 for the quadratic terms, which may or may not be there, and next to none for the linear ones;
    so it is finite for fewer runs than terms.

    References
    ----------
    DuMouchel and Jones, A Simple Bayesian Modification of D-Optimal Designs (1994).
    """
    return float(np.linalg.slogdet(_information(scheffe(shares), n_domains=shares.shape[1]))[1])


def lay_out(region: Region, n: int, *, design: Design = "d_optimal", given: Sequence[Shares] = (), seed: int = 0) -> Shares:
    """Return n mixtures of a region to run beside those that are run anyway.

    ``d_optimal`` takes those of many candidates (corners, middles of edges and 2,000 even draws) that make the
    :func:`log_determinant` of all runs large: one by one, then by exchanging one for another while that helps (Fedorov).
    ``random`` draws evenly over the simplex (Dirichlet, all parameters 1). No point comes twice.

    Parameters
    ----------
    region
        Where they may lie.
    n
        How many.
    given
        (D,) each, runs that are made anyway.
    seed
        Of the draws.

    Returns
    -------
    (n, D) float64 in the region.

    Raises
    ------
    InputError
        Where the region has not so many points.

    References
    ----------
    Fedorov, Theory of Optimal Experiments (1972), chapter 3; RegMix, Liu et al. 2024, arXiv:2407.01492, for draws
    from a Dirichlet distribution.

    Examples
    --------
    >>> lay_out(Region(domains=("law", "code"), floor=0.1, caps=(1, 1)), 2, given=[np.array([0.5, 0.5])]).tolist()
    [[0.1, 0.9], [0.9, 0.1]]
    """
    order = np.argsort(region.domains)
    back = np.argsort(order)
    named = Region(tuple(region.domains[i] for i in order), region.floor, tuple(region.caps[i] for i in order))
    there = np.array([np.asarray(each)[order] for each in given]).reshape(len(given), order.size)
    offered = _unique(DESIGNS[design](named, n, seed), but=there)
    if len(offered) < n:
        hint = "fewer runs, a lower floor of the law, or a smaller budget"
        raise InputError("the region has too few mixtures to run", where="--runs", expected=f"{n}", got=len(offered), hint=hint)
    chosen = offered[:n] if design == "random" else offered[_exchanged(offered, n, there)]
    return np.asarray(chosen[:, back], dtype=np.float64)


def _draws(region: Region, n: int, seed: int) -> Shares:
    """Return n even draws over the simplex, moved into the region."""
    drawn = np.column_stack([rng(seed, "small runs", domain).gamma(1.0, size=n) for domain in region.domains])
    return np.array([region.within(each) for each in drawn]).reshape(n, len(region.domains))


def _candidates(region: Region, n: int, seed: int) -> Shares:
    corners = np.eye(len(region.domains))
    middles = [corners[i] + corners[j] for i, j in combinations(range(len(corners)), 2)]
    return np.vstack([*map(region.within, [*corners, *middles]), _draws(region, max(CANDIDATES, n), seed)])


DESIGNS: dict[str, Callable[[Region, int, int], Shares]] = {
    "d_optimal": _candidates,
    "random": lambda region, n, seed: _draws(region, 4 * n, seed),
}
"""What a design chooses from."""


def _unique(points: Shares, *, but: Shares) -> Shares:
    """Return the points that differ from each other and from those that are there, in their order."""
    first = np.unique(np.vstack([but, points]), axis=0, return_index=True)[1]
    return np.asarray(points[np.sort(first[first >= len(but)]) - len(but)], dtype=np.float64)


def _information(terms: NDArray[np.float64], *, n_domains: int) -> NDArray[np.float64]:
    prior = np.ones(terms.shape[1])
    prior[:n_domains] = _LITTLE
    return np.asarray(terms.T @ terms + np.diag(prior), dtype=np.float64)


def _exchanged(offered: Shares, n: int, there: Shares) -> list[int]:
    """Return the indices of n offered points whose determinant no exchange of one for another raises."""
    terms = scheffe(offered)
    given = scheffe(there) if len(there) else terms[:0]
    chosen: list[int] = []

    def best(others: list[int]) -> int:
        """The point that raises the determinant most: by the factor ``1 + x' M^-1 x``."""
        inverse = np.linalg.inv(_information(np.vstack([given, terms[others]]), n_domains=offered.shape[1]))
        gain = ((terms @ inverse) * terms).sum(axis=1)
        gain[others] = -np.inf
        return int(np.argmax(np.round(gain / gain.max(), 9)))  # of equal ones the first

    for _ in range(n):
        chosen.append(best(chosen))
    for _ in range(ROUNDS):
        before = list(chosen)
        for i in range(n):
            chosen[i] = best(chosen[:i] + chosen[i + 1 :])
        if chosen == before:
            break
    return chosen
