"""Laws against uniform weights at one budget: what a small base learns of six domains, weights at rest and weights that move.

Every arm trains the base of a world on as many loss tokens of questions, drawn by its law, and is asked in a wording that it
was not trained on. The score is the exact match on facts that were trained on (``known``), the mean over the six domains;
beside it stand the facts that only the base has read (``new``), and the loss. What moving laws look at are other questions than
those that are scored. References of ``potential`` come from runs on each domain alone. ``inverse``, which came out best of a
first round (seeds 601 to 604), is asked once more, alone, of as many other seeds (``again``).

Differences from ``uniform`` are paired by world and seed, with intervals of Student's t at 95 %, for one comparison and for all
(Bonferroni), and a p value after Holm. Rates and the settings of the laws were chosen on world 100 (docs/LOG.md).

It resumes where it was stopped (its store is in ``runs/``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from _harness import QUICK, write_evidence
from _worlds import (
    DOMAINS,
    WORLDS,
    Base,
    afterwards,
    bases,
    compared,
    questions,
    recipe,
    seeds,
    show,
    swept,
    training,
    workers,
)

SEEDS, MORE = seeds(601, 4), () if QUICK else seeds(801, 4)
TOKENS = 600 if QUICK else 12_000
FLOOR = 0.02
CONTROL, BEST = "uniform", "inverse"
POTENTIAL = {"name": "potential", "every": 20, "floor": FLOOR, "sigma": 1.0}
PROGRESS = {"name": "progress", "every": 20, "floor": 0.04, "sigma": 0.5}
ARMS: dict[str, tuple[str, dict[str, Any] | None]] = {  # where weights begin, and what moves them
    "uniform": ("uniform", None),
    "knowledge": ("knowledge", None),
    "inverse": ("inverse", None),
    "knowledge, potential": ("knowledge", POTENTIAL),
    "uniform, potential": ("uniform", POTENTIAL),
    "uniform, progress": ("uniform", PROGRESS),
}
MEASURES = {"known": "exact_match", "new": "exact_match", "loss": "loss_nats_per_token"}
if QUICK:
    ARMS = {name: ARMS[name] for name in ("uniform", "uniform, progress")}


def weights(start: str, knows: tuple[float, ...]) -> dict[str, float]:
    """Return the weights with which an arm begins."""
    p, k = np.array(knows), len(DOMAINS)
    out = {"uniform": np.full(k, 1 / k), "knowledge": FLOOR + (1 - k * FLOOR) * p, "inverse": (1 - p) / (k - 1)}[start]
    return {domain: float(value) for domain, value in zip(DOMAINS, out / out.sum(), strict=True)}


def run(arm: str, world: int, seed: int, base: Base) -> dict[str, Any]:
    """Carry out one arm and return what it learned."""
    start, law = ARMS[arm]
    trained, found = afterwards(recipe(
        world, seed, base.model, sources=questions(), law={"name": "explicit", "weights": weights(start, base.knows)},
        budget={"amount": TOKENS, "unit": "loss_tokens", "max_repeats": 60}, train=training(2e-3, law),
    ))  # fmt: skip
    known, new = ({domain: found[f"{domain}-{kind}"] for domain in DOMAINS} for kind in ("known", "new"))
    return {
        "arm": arm, "world": world, "seed": seed, "known": _mean(known, "exact_match"), "new": _mean(new, "exact_match"),
        "loss": _mean(known, "loss_nats_per_token"),
        "by_domain": {domain: each["exact_match"] for domain, each in known.items()},
        "cpu": trained.manifest.made["cpu_seconds"],
    }  # fmt: skip


def _mean(of: Mapping[str, Mapping[str, float]], measure: str) -> float:
    return float(np.mean([each[measure] for each in of.values()]))


def main() -> None:
    """Carry out every arm, compare them, and keep the tables."""
    with workers() as pool:
        made = bases(pool, WORLDS)
        asked = [(arm, world, seed, made[world]) for arm in ARMS for seed in SEEDS for world in WORLDS]
        runs = swept(pool, run, asked)
        more = swept(
            pool, run, [(arm, world, seed, made[world]) for arm in (CONTROL, BEST) for seed in MORE for world in WORLDS]
        )
    tables = {of: compared(runs, of=of, control=CONTROL, n_comparisons=len(ARMS) - 1) for of in MEASURES}
    again = {of: compared(more, of=of, control=CONTROL, n_comparisons=1) for of in MEASURES} if more else {}
    knows = {world: base.knows for world, base in made.items()}
    sizes = {"worlds": WORLDS, "seeds": SEEDS, "more": MORE, "tokens": TOKENS, "arms": ARMS, "knows": knows}
    write_evidence("laws", control=CONTROL, sizes=sizes, tables=tables, again=again, runs=[*runs, *more])
    for of, table in tables.items():
        show(f"{of}: mean, difference from {CONTROL} with its 95 % interval", [*table, *again.get(of, [])[1:]])


if __name__ == "__main__":
    sys.exit(main())
