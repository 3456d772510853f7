"""The exact transport through few pairs against POT's network simplex on all: the same value, and a dual checked on every pair.

Two clouds on the sphere in 384 dimensions, sixty topics of forty dimensions each with noise, the topics' shares unlike in the
two; cosine costs. Theirs is given the cost matrix, ours as well; what ours needs besides (entropic potentials, the choice of
pairs, the check) is timed. ``violation`` is by how much the worst pair breaks the dual, over the distance. ``--large`` adds
clouds of 10,000 points, where POT takes minutes.
"""

from __future__ import annotations

import statistics
import sys
import warnings

import numpy as np
from _harness import LARGE, QUICK, Ratio, cpu_seconds, tell

from composer.similarity.certified import Solved, solve
from composer.similarity.transport import costs
from composer.spec import rng

SIZES = [600] if QUICK else [500, 2_000, *([10_000] if LARGE else [])]
TARGETS = {2_000: {"even": 0.25, "uneven": 0.5}, 10_000: {"even": 0.4, "uneven": 0.4}}
SAME = 1e-6


def main() -> None:
    """Solve every problem both ways, in turns."""
    warnings.simplefilter("ignore")  # the solver's first import warns of its own source
    told: list[Ratio] = []
    violations: list[float] = []
    seconds: dict[str, dict[str, float]] = {}
    equal = True
    for n in SIZES:
        for weights in ("uneven", "even"):
            repeats = 2 if QUICK else 5 if n <= 2_000 else 1
            turns = [turn(n, weights, seed) for seed in range(41, 41 + repeats)]  # 0 to 4 were used to choose settings
            ratio = statistics.median(ours / theirs for ours, theirs, _, _ in turns)
            target = TARGETS.get(n, {}).get(weights, 1.0)
            told.append(Ratio(f"cpu over POT's emd2, {n:,} points of {weights} weights", ratio, target, "lower", repeats))
            violations += [found.violation / value for _, _, found, value in turns]
            equal = equal and all(abs(found.cost - value) <= SAME * value for _, _, found, value in turns)
            seconds[f"{n:,}, {weights}"] = {
                "ours": round(statistics.median(ours for ours, _, _, _ in turns), 3),
                "emd2": round(statistics.median(theirs for _, theirs, _, _ in turns), 3),
            }
    order = sorted(told, key=lambda each: each.target == 1.0)  # those with a target of their own first
    order.append(Ratio("largest violation of the dual over W", max(violations), SAME, "lower", len(violations)))
    tell("wasserstein", order, equal=equal, sizes={"points": SIZES, "dimensions": 384}, costs=seconds)


def turn(n: int, weights: str, seed: int) -> tuple[float, float, Solved, float]:
    """Return both sides' CPU seconds on one problem, what ours found and the value of theirs."""
    import ot

    price = costs(cloud(n, seed, 0), cloud(n, seed, 1), cost="cosine")
    dice = rng(seed, "benchmark", "weights", n)
    a, b = (np.full(n, 1 / n) if weights == "even" else dice.dirichlet(np.ones(n)) for _ in range(2))
    theirs, value = cpu_seconds(lambda: float(ot.emd2(a, b, price, numItermax=10**9)))
    ours, found = cpu_seconds(lambda: solve(price, a, b))
    print(f"{n:,} {weights} {seed}: ours {ours:.3f} s, emd2 {theirs:.3f} s, {ours / theirs:.3f}", file=sys.stderr, flush=True)
    return ours, theirs, found, value


def cloud(n: int, seed: int, side: int) -> np.ndarray:
    """Return points on the sphere, float32 (n, 384), around topics that both sides share."""
    world, dice = rng(seed, "benchmark", "topics"), rng(seed, "benchmark", "cloud", side, n)
    topics, spread = world.normal(size=(60, 384)), world.normal(size=(60, 40, 384)) / np.sqrt(40)
    of = dice.choice(60, size=n, p=world.dirichlet(np.full(60, 0.5), size=2)[side])
    own = np.stack([dice.normal(size=40) @ spread[topic] for topic in of])
    points = topics[of] + own + 0.4 * dice.normal(size=(n, 384))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    main()
