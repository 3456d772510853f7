"""One domain grows: how near to training on it alone, and how much less the others lose.

The base of a world first learns all six domains alike. Then two thirds as many loss tokens go to one target domain: alone, at
fixed shares beside the others, or by VersaTune's rule, whose share begins at a sixth and rises. The target's score is its exact
match on facts that were trained on, in a wording that was not. The others' loss of score is what they had before less what they
have afterwards, so that a gain counts as a negative loss; the paper claims a cut of it by 38.77 %.

The quick rule, which came nearest to both aims on seeds 621 to 624, is asked once more, alone, of as many other seeds
(``again``). Differences from ``alone`` are paired by world and seed. Settings of the rule and the shares that are reported were
chosen on world 100 (docs/LOG.md). It resumes where it was stopped (its store is in ``runs/``).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from _harness import QUICK, write_evidence
from _worlds import (
    DOMAINS,
    WORLDS,
    Base,
    bases,
    carried_out,
    compared,
    questions,
    read_off,
    recipe,
    seeds,
    show,
    swept,
    training,
    workers,
)

SEEDS, MORE = seeds(621, 4), () if QUICK else seeds(821, 4)
FIRST, SECOND = (600, 400) if QUICK else (12_000, 8_000)  # loss tokens
TARGETS = ("medicine", "science", "finance", "code")  # of the seeds, in turn
CONTROL, BEST = "alone", "expansion, quick"
RULE = {"name": "expansion", "floor": 0.02}
ARMS: dict[str, tuple[float | None, dict[str, Any] | None]] = {  # the target's share, and what moves it
    "alone": (1.0, None),
    "90 %": (0.9, None),
    "80 %": (0.8, None),
    "50 %": (0.5, None),
    "expansion": (1 / 6, {**RULE, "every": 10, "delta": 0.1}),
    "expansion, quick": (1 / 6, {**RULE, "every": 5, "delta": 0.4, "cap": 0.9}),
}
MEASURES = ("target", "lost", "new")
if QUICK:
    ARMS = {name: ARMS[name] for name in ("alone", "expansion")}


def stage(world: int, seed: int, model: str, shares: dict[str, float], tokens: int, train: dict[str, Any]) -> Any:
    """Return the recipe of one stage of training on shares of the six domains."""
    return recipe(
        world, seed, model, sources=questions(), law={"name": "explicit", "weights": shares},
        budget={"amount": tokens, "unit": "loss_tokens", "max_repeats": 60}, train=train,
    )  # fmt: skip


def target_of(seed: int) -> str:
    """Return the domain that grows."""
    return TARGETS[seed % len(TARGETS)]


def run(arm: str, world: int, seed: int, base: Base) -> dict[str, Any]:
    """Carry out one arm after the stage that all share, and return the target's score and what the others lost."""
    even = dict.fromkeys(DOMAINS, 1 / len(DOMAINS))
    first = carried_out(stage(world, seed, base.model, even, FIRST, training(2e-3)), until="train")
    target, (share, law) = target_of(seed), ARMS[arm]
    shares = {domain: share if domain == target else (1 - share) / (len(DOMAINS) - 1) for domain in DOMAINS}
    law = None if law is None else {**law, "target": target}
    found = carried_out(stage(world, seed, str(first["train"].path / "model"), shares, SECOND, training(1e-3, law)))
    before, after = (read_off(found, "exact_match", "known", stage=at) for at in (0, -1))
    lost = float(np.mean([before[domain] - after[domain] for domain in DOMAINS if domain != target]))
    return {
        "arm": arm, "world": world, "seed": seed, "of": target, "target": after[target], "target_before": before[target],
        "lost": lost, "others_before": float(np.mean([before[domain] for domain in DOMAINS if domain != target])),
        "new": float(np.mean(list(read_off(found, "exact_match", "new").values()))),
        "cpu": found["train"].manifest.made["cpu_seconds"],
    }  # fmt: skip


def claims(tables: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return of every arm what part of the control's target score it has, and by what part it cuts what the others lose."""
    target, lost = ({row["arm"]: row["mean"] for row in tables[of]} for of in ("target", "lost"))
    if not target[CONTROL] or lost[CONTROL] <= 0:
        return []  # nothing was learned, or nothing lost: there is nothing to keep or to cut
    return [
        {"arm": arm, "target_kept": target[arm] / target[CONTROL], "loss_cut": 1 - lost[arm] / lost[CONTROL]} for arm in target
    ]


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
    sizes = {"worlds": WORLDS, "seeds": SEEDS, "more": MORE, "tokens": [FIRST, SECOND], "arms": ARMS}
    told, later = claims(tables), claims(again) if again else []
    write_evidence(
        "expansion",
        control=CONTROL,
        sizes=sizes,
        tables=tables,
        claims=told,
        again=again,
        claims_again=later,
        runs=[*runs, *more],
    )
    for of, table in tables.items():
        show(f"{of}: mean, difference from {CONTROL} with its 95 % interval", [*table, *again.get(of, [])])
    for each in [*told, *later]:
        print("  {arm:34s} target {target_kept:.1%} of {0}, others' loss cut by {loss_cut:.1%}".format(CONTROL, **each))


if __name__ == "__main__":
    sys.exit(main())
