"""Replay policies against one another, at equal budgets: five tasks of the tiny world learned one after another.

Every arm is a whole run of the pipeline, as a user would start it: five tasks in an order that the seed decides, 300 rows
of each, 20 replayed rows per earlier task, three epochs. A world has entities, words and a base model of its own; a seed
decides the order of the tasks, their rows, what is replayed and the order of training, and is the same for all policies, so
differences are paired. The score of a run is InsCL's: the mean over the stages of the relative gain, that is of the exact
match of the earlier tasks over what an expert of each reaches.

Differences from ``stratified``, the control that no published policy is compared with, have intervals of Student's t over the
pairs, at 95 % for one comparison and, corrected for the number of comparisons (Bonferroni), for all of them together.

What comes out best of so many is asked once more, of other worlds and seeds, with twice the pairs. World 100
and seeds below 100 were used to choose what is compared; after a first round (worlds 11 to 13, seeds 201 to 204, told in
docs/LOG.md) the risk policies were given other shares. The worlds and seeds reported here were used for nothing else.

It takes about half an hour on two quiet cores and resumes where it was stopped (its store is in ``runs/``).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _harness import QUICK, machine, write_result

from composer.spec import rng
from composer.trial import paired
from composer.trial.paired import finite

ROOT = Path(__file__).parents[1] / "runs" / ("replay-quick" if QUICK else "replay")
TASKS = ("opposite", "translate", "parity", "first", "last")
ROWS = 60 if QUICK else 300
WORLDS = (11,) if QUICK else (21, 22, 23)
SEEDS = (201, 202) if QUICK else (301, 302, 303, 304)
CONTROL, BEST = "stratified", "spread"
AGAIN_WORLDS = () if QUICK else (31, 32, 33)
AGAIN_SEEDS = () if QUICK else (401, 402, 403, 404, 405, 406, 407, 408)
ARMS: dict[str, dict[str, Any]] = {
    "none": {"name": "none"},
    "random": {"name": "random"},
    "stratified": {"name": "stratified"},
    "distance": {"name": "distance"},
    "coverage": {"name": "coverage"},
    "interference": {"name": "interference"},
    "loss": {"name": "loss"},
    "spread": {"name": "spread"},
}
MEASURES = ("score", "exact_match", "last")
if QUICK:
    ARMS = {name: ARMS[name] for name in ("none", "stratified", "loss")}
BASE = {"documents": 400, "layers": 1, "hidden": 64, "heads": 2} if QUICK else {}


def recipe(world: int, seed: int, policy: dict[str, Any], base: Path) -> dict[str, Any]:
    """Return the recipe of one arm."""
    from flows.demo import story

    own = yaml.safe_load((story.RECIPES / "tasks.yaml").read_text(encoding="utf-8"))
    order = [TASKS[i] for i in rng(seed, "order of tasks").permutation(len(TASKS))][: 3 if QUICK else None]
    sources = []
    for task in order:
        path = f"tasks-{seed}/{task}.jsonl"
        of = {"path": path, "domain": task, "license": "Apache-2.0"}
        sources.append({"name": task, **of, "where": {"split": "train"}, "limit": ROWS})
        sources.append({"name": f"{task}-test", **of, "role": "validation", "where": {"split": "test"}})
    replay = policy if policy["name"] == "none" else {**policy, "per_task": 20}
    more = {"train": {**own["train"], "epochs": 1}} if QUICK else {}
    return own | {
        "name": f"replay-{world}-{seed}-{policy['name']}", "seed": seed, "root": str(ROOT / f"world-{world}"),
        "base_model": {"path": str(base.resolve())}, "sources": sources, "sequence": order, "replay": replay,
        "store": str((ROOT / f"world-{world}" / "store").resolve()), "exports": ["chat_jsonl"],
        "evaluate": {"max_samples": 100, "experts": True}, **more,
    }  # fmt: skip


def make_world(world: int) -> Path:
    """Write a world with the tasks of every seed and train its base model; return the model's folder."""
    from flows.demo.story import arm
    from flows.demo.tasks import tasks
    from flows.demo.world import World, write

    folder = ROOT / f"world-{world}"
    here = World(seed=world)
    write(here, folder / "world", seed=1, documents=7_000)
    for seed in SEEDS if world in WORLDS else AGAIN_SEEDS:
        (folder / f"tasks-{seed}").mkdir(exist_ok=True)
        for task, rows in tasks(here, seed=seed).items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"tasks-{seed}" / f"{task}.jsonl").write_text(lines, encoding="utf-8")
    settings = [f"base_model.train.{name}={value}" for name, value in {"threads": 1, **BASE}.items()]
    kind, key = arm(folder, "tasks", "base", f"seed={world}", *settings)["base"]
    return folder / "store" / kind / key / "model"


def run(world: int, seed: int, name: str, base: Path) -> dict[str, Any]:
    """Carry out one arm, or find it carried out, and return what it kept."""
    from composer.artifact import Store
    from flows.pipeline import make_plan
    from flows.recipe import Recipe
    from flows.shell import carry_out

    begun = time.process_time()
    with redirect_stderr(StringIO()):
        read = Recipe(**recipe(world, seed, ARMS[name], base))
        store = Store(read.store)
        found = carry_out(make_plan(read, store), store, plain=True)
    kept = found["retain"].json("retention.json")
    gains = [each["percent"] for each in kept["relative_gain"][2:] if each["percent"] is not None] or [float("nan")]
    last = len(kept["stages"]) - 1
    return {
        "world": world, "seed": seed, "policy": name, "score": float(np.mean(gains)), "last": gains[-1],
        "exact_match": float(np.mean([row[j] for i, row in enumerate(kept["exact_match"][2:], 2) for j in _earlier(kept, i)])),
        "backward_transfer": kept["backward_transfer"], "stages": last, "cpu": round(time.process_time() - begun, 1),
    }  # fmt: skip


def _earlier(kept: dict[str, Any], stage: int) -> list[int]:
    return [kept["domains"].index(name) for name in kept["stages"][1:stage]]


def compared(
    runs: list[dict[str, Any]], name: str, *, of: str, n_comparisons: int, worlds: tuple[int, ...] = WORLDS
) -> dict[str, Any]:
    """Return the mean paired difference of a policy from the control, with its intervals."""
    value = {(r["policy"], r["world"], r["seed"]): r[of] for r in runs}
    pairs = [(world, seed) for who, world, seed in value if who == name and world in worlds]
    mine, control = (np.array([value[(who, *pair)] for pair in pairs]) for who in (name, CONTROL))
    found, gap = paired(mine, control, n_comparisons=n_comparisons), mine - control
    per_world = {str(w): float(gap[[k for k, (world, _) in enumerate(pairs) if world == w]].mean()) for w in worlds}
    return {
        **found.model_dump(exclude={"n", "larger_in"}), "policy": name, "mean": float(mine.mean()),
        "sd": float(mine.std(ddof=1)), "per_world": per_world, "pairs": found.n, "better_in": found.larger_in,
    }  # fmt: skip


def main() -> None:
    """Run every arm in two processes, compare them, and keep the table."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as workers:
        worlds = WORLDS + AGAIN_WORLDS
        bases = dict(zip(worlds, workers.map(make_world, worlds), strict=True))
        asked = [(w, seed, name) for seed in SEEDS for w in WORLDS for name in ARMS]
        asked += [(w, seed, name) for seed in AGAIN_SEEDS for w in AGAIN_WORLDS for name in (CONTROL, BEST)]
        jobs = [workers.submit(run, w, seed, name, bases[w]) for w, seed, name in asked]
        runs = []
        for done in as_completed(jobs):
            runs.append(done.result())
            shown = ", ".join(f"{key} {value}" for key, value in runs[-1].items())
            print(f"{len(runs)} of {len(jobs)}: {shown}", file=sys.stderr, flush=True)
    tell(runs)


def tell(runs: list[dict[str, Any]]) -> None:
    """Compare the arms by every measure, keep the tables and print them."""
    runs.sort(key=lambda r: (r["world"], r["seed"], list(ARMS).index(r["policy"])))
    n = len(ARMS) - 1
    known = [of for of in MEASURES if finite([each[of] for each in runs])]
    for of in MEASURES:
        if of not in known:
            print(f"by {of}: not known of every run, for an expert is right in nothing", file=sys.stderr)
    tables = {of: [compared(runs, name, of=of, n_comparisons=n) for name in ARMS] for of in known}
    again = {of: compared(runs, BEST, of=of, n_comparisons=1, worlds=AGAIN_WORLDS) for of in tables if AGAIN_WORLDS}
    sizes = {
        "worlds": WORLDS,
        "seeds": SEEDS,
        "again": [AGAIN_WORLDS, AGAIN_SEEDS],
        "tasks": TASKS,
        "rows": ROWS,
        "per_task": 20,
        "comparisons": n,
    }
    told = {"control": CONTROL, "policies": tables, "again": again, "runs": runs}
    write_result("replay_policies", {"name": "replay_policies", "ratios": [], "sizes": sizes, "machine": machine(), **told})
    for of, table in tables.items():
        print(f"by {of}: mean, difference from {CONTROL}, its 95 % interval, the interval corrected for {n} comparisons")
        for each in [*table, *([again[of]] if again else [])]:
            print("  {policy:14s} {mean:8.3f} {difference:+8.3f} [{low:+.3f}, {high:+.3f}] "
                  "[{low_corrected:+.3f}, {high_corrected:+.3f}] better in {better_in} of {pairs}".format(**each))  # fmt: skip


if __name__ == "__main__":
    main()
