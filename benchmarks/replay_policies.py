"""Replay policies against one another, at equal budgets: five tasks of the tiny world learned one after another.

Every arm is a whole run of the pipeline, as a user would start it: five tasks in an order that the seed decides, 300 rows
of each, 20 replayed rows per earlier task, three epochs. A seed decides the order of the tasks, their rows, what is replayed
and the order of training, and is the same for all policies, so differences are paired. ``exact_match`` is the mean over the
earlier tasks of every stage; ``gain`` is InsCL's score, the same over what an expert of each task reaches.

Differences from ``stratified``, the control that no published policy is compared with, have intervals of Student's t over the
pairs, at 95 % for one comparison and, corrected for the number of comparisons (Bonferroni), for all of them together.
``spread``, which came out best on other worlds and seeds (docs/LOG.md, 2026-11-27), and its control have twice the seeds. With
``--long`` all policies have them, three more are asked, and there are three times as many seeds.

It resumes where it was stopped (its store is in ``runs/``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import yaml
from _harness import LONG, QUICK, write_evidence
from _worlds import WORLDS, Base, bases, carried_out, compared, folder_of, seeds, show, swept, task_files, workers

from composer.spec import rng
from composer.trial.paired import finite

TASKS = ("opposite", "translate", "parity", "first", "last")
ROWS = 60 if QUICK else 300
SEEDS, MORE = seeds(661, 4), () if QUICK else seeds(681, 4)
CONTROL, BEST = "stratified", "spread"
ARMS = ("none", "random", "stratified", "distance", "spread")
if LONG:
    ARMS += ("coverage", "interference", "loss")
if QUICK:
    ARMS = ("none", "stratified", "loss")
MEASURES = ("exact_match", "gain")


def recipe(world: int, seed: int, policy: str, base: Base) -> Any:
    """Return the recipe of one arm."""
    from flows.demo import story
    from flows.recipe import Recipe

    own = yaml.safe_load((story.RECIPES / "tasks.yaml").read_text(encoding="utf-8"))
    order = [TASKS[i] for i in rng(seed, "order of tasks").permutation(len(TASKS))][: 3 if QUICK else None]
    sources = []
    for task in order:
        path = f"tasks-{seed}/{task}.jsonl"
        of = {"path": path, "domain": task, "license": "Apache-2.0"}
        sources.append({"name": task, **of, "where": {"split": "train"}, "limit": ROWS})
        sources.append({"name": f"{task}-test", **of, "role": "validation", "where": {"split": "test"}})
    more = {"train": {**own["train"], "epochs": 1}} if QUICK else {}
    return Recipe(**own | {
        "name": f"replay-{world}-{seed}-{policy}", "seed": seed, "root": str(folder_of(world)),
        "base_model": {"path": base.model}, "sources": sources, "sequence": order,
        "replay": {"name": policy} if policy == "none" else {"name": policy, "per_task": 20},
        "store": str((folder_of(world) / "store").resolve()), "exports": ["chat_jsonl"],
        "evaluate": {"max_samples": 100, "experts": True}, **more,
    })  # fmt: skip


def run(arm: str, world: int, seed: int, base: Base) -> dict[str, Any]:
    """Carry out one arm, or find it carried out, and return what it kept."""
    found = carried_out(recipe(world, seed, arm, base))
    kept = found["retain"].json("retention.json")
    gains = [each["percent"] for each in kept["relative_gain"][2:] if each["percent"] is not None] or [float("nan")]
    earlier = [row[j] for i, row in enumerate(kept["exact_match"][2:], 2) for j in _earlier(kept, i)]
    trained = [artifact.manifest.made["cpu_seconds"] for label, artifact in found.items() if label.startswith("train")]
    return {
        "arm": arm, "world": world, "seed": seed, "exact_match": float(np.mean(earlier)), "gain": float(np.mean(gains)) / 100,
        "cpu": round(sum(trained), 1),
    }  # fmt: skip


def _earlier(kept: dict[str, Any], stage: int) -> list[int]:
    return [kept["domains"].index(name) for name in kept["stages"][1:stage]]


def main() -> None:
    """Run every arm, compare them, and keep the tables."""
    with workers() as pool:
        made = bases(pool, WORLDS)
        for world in WORLDS:
            task_files(world, (*SEEDS, *MORE))
        asked = [(arm, w, seed, made[w]) for arm in ARMS for seed in SEEDS for w in WORLDS]
        again = ARMS if LONG else (CONTROL, BEST)
        runs = swept(pool, run, asked + [(arm, w, seed, made[w]) for arm in again for seed in MORE for w in WORLDS])
    known = [of for of in MEASURES if finite([each[of] for each in runs])]
    tables = {of: compared(runs, of=of, control=CONTROL, n_comparisons=len(ARMS) - 1) for of in known}
    sizes = {"worlds": WORLDS, "seeds": SEEDS, "more": MORE, "tasks": TASKS, "rows": ROWS, "per_task": 20}
    write_evidence("replay_policies", control=CONTROL, sizes=sizes, tables=tables, runs=runs)
    for of, table in tables.items():
        show(f"{of}: mean, difference from {CONTROL} with its 95 % interval", table)


if __name__ == "__main__":
    main()
