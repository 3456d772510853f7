"""InsInfo against the published way: for every tag of every instruction, scan the tag lists of the whole pool.

Both sides get the same tag lists; the scores are compared to 1e-12.
"""

from __future__ import annotations

import math

import numpy as np
from _harness import QUICK, compare

from composer.insinfo import insinfo
from composer.spec import rng

N, TAGS = (1_000, 300) if QUICK else (4_000, 1_000)


def pool() -> list[list[str]]:
    """Return instructions with three to six tags each, drawn so that few tags are frequent and many are rare."""
    dice = rng(0, "benchmark", "insinfo")
    weights = 1 / np.arange(1, TAGS + 1)
    names = [f"tag {i}" for i in range(TAGS)]
    return [
        [names[i] for i in dice.choice(TAGS, size=int(dice.integers(3, 7)), replace=False, p=weights / weights.sum())]
        for _ in range(N)
    ]


def published(tags: list[list[str]]) -> list[float]:
    """Return the scores by scanning the pool for every tag."""
    return [sum(math.log(len(tags) / sum(tag in other for other in tags)) for tag in own) for own in tags]


if __name__ == "__main__":
    tags = pool()
    insinfo(tags[:2])  # imports are not the question
    compare(
        "insinfo",
        ours=lambda: insinfo(tags),
        theirs=lambda: published(tags),
        same=lambda a, b: bool(np.allclose(a, b, rtol=0, atol=1e-12)),
        target=0.01,
        better="lower",
        sizes={"instructions": N, "tags": TAGS},
    )
