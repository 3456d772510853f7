"""Adapters against one another at matched budgets: what is learned of new tasks, and what is kept of old ones.

A base model of the tiny world is first fine-tuned on three old tasks. Every arm then trains on two new ones, for as many
optimiser steps as all others: steps of a calibration and of single experts count. LoTTO alone cannot begin at the common model,
for it needs the mask of the old tasks: its own old stage is LoTA. Every arm's learning rate is swept over six values on the
tuning seeds, and the one with the largest harmonic mean of new and old skill afterwards is taken (a sum is largest where
nothing is learned); two more arms of full take half and a fifth of its rate.

Exact match is the mean over tasks, retained is the old tasks' after over before, text is the rise of the loss on documents of
the base in nats per token. Differences from ``full`` are paired by world and seed, with intervals of Student's t at 95 %, for
one comparison and corrected for all (Bonferroni). World 100 and seeds below 100 are for tuning and are not reported.

It resumes where it was stopped (its store is in ``runs/``).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from _harness import QUICK, machine, write_result

from composer.artifact import Artifact, Store
from composer.trial import paired

ROOT = Path(__file__).parents[1] / "runs" / ("adapters-quick" if QUICK else "adapters")
OLD, NEW = ("opposite", "translate", "first"), ("last", "parity")
DOMAINS = ("law", "medicine", "finance", "science", "code", "general")
STEPS, BATCH, CALIBRATION = (6, 8, 2) if QUICK else (48, 16, 8)
TUNING = ((100, 51),) if QUICK else ((100, 51), (100, 52))
REPORTED = ((41, 501),) if QUICK else tuple((world, seed) for world in (41, 42, 43) for seed in (501, 502, 503, 504))
LOWER = {"full, half the rate": 0.5, "full, a fifth of the rate": 0.2}
CONTROL = "full"
LORA: dict[str, Any] = {"rank": 16, "alpha": 32}
ARMS: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    **{arm: {"name": "full"} for arm in LOWER},
    "lora": {"name": "lora", **LORA},
    "dora": {"name": "lora", **LORA, "dora": True},
    "rslora": {"name": "lora", **LORA, "rslora": True},
    "osf": {"name": "osf"},
    "shira": {"name": "shira", "rank": 16},
    "loramoe": {"name": "loramoe", "rank": 4, "dropout": 0.0, "knowledge": ["last"]},
    "loramoe, no balance": {"name": "loramoe", "rank": 4, "dropout": 0.0, "beta": 0.0},
    "mola": {"name": "mola", "expert": LORA},
    "lota": {"name": "lota", "sparsity": 0.9, "calibration_steps": CALIBRATION},
    "lotto": {"name": "lota", "sparsity": 0.9, "calibration_steps": CALIBRATION},
}
WHOLE, THIN = (3e-5, 6e-5, 1e-4, 2e-4, 3e-4, 1e-3), (1e-4, 3e-4, 6e-4, 1e-3, 2e-3, 3e-3)
HIGH = {"osf": (3e-4, 1e-3, 2e-3, 3e-3, 6e-3, 1e-2), "lotto": (1e-3, 3e-3, 6e-3, 1e-2, 2e-2, 3e-2)}
RATES = {arm: WHOLE if arm == "full" else THIN for arm in ARMS} | HIGH
if QUICK:
    ARMS = {arm: ARMS[arm] for arm in ("full", "lora", "loramoe", "mola", "lota")}
    RATES = dict.fromkeys(ARMS, (1e-3,))
Pair = tuple[int, int]


def folder_of(world: int) -> Path:
    """Return where a world lies, with the store of all its runs."""
    return ROOT / f"world-{world}"


def make_world(world: int, seeds: Sequence[int]) -> Path:
    """Write a world with the tasks of its seeds and train its base model; return the model's folder."""
    from flows.demo.story import arm
    from flows.demo.tasks import tasks
    from flows.demo.world import World, write

    folder, here = folder_of(world), World(seed=world)
    write(here, folder / "world", seed=1, documents=7_000)
    for seed in seeds:
        (folder / f"tasks-{seed}").mkdir(exist_ok=True)
        for task, rows in tasks(here, seed=seed).items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"tasks-{seed}" / f"{task}.jsonl").write_text(lines, encoding="utf-8")
    small = {"documents": 400, "layers": 1, "hidden": 64, "heads": 2} if QUICK else {}
    settings = [f"base_model.train.{name}={value}" for name, value in {"threads": 1, **small}.items()]
    kind, key = arm(folder, "tasks", "base", f"seed={world}", *settings)["base"]
    return folder / "store" / kind / key / "model"


def sources(seed: int, *, trained: Sequence[str]) -> list[dict[str, Any]]:
    """Return the sources: rows to train on of some tasks, test rows of all, and documents of the base as one domain."""
    out: list[dict[str, Any]] = []
    for task in (*OLD, *NEW):
        of = {"path": f"tasks-{seed}/{task}.jsonl", "domain": task, "license": "Apache-2.0"}
        if task in trained:
            limit = 128 if task in NEW else 300
            out.append({"name": task, **of, "where": {"split": "train"}, "limit": limit})
        out.append({"name": f"{task}-test", **of, "role": "validation", "where": {"split": "test"}})
    for domain in DOMAINS:
        path = f"world/reference/{domain}.jsonl"
        out.append({"name": f"{domain}-text", "path": path, "domain": "text", "role": "validation", "limit": 20})
    return out


def recipe(world: int, seed: int, **fields: Any) -> Any:
    """Return a recipe of this world: one phase on equal parts of its tasks, at the tiny world's settings."""
    from flows.recipe import Recipe

    return Recipe(**{
        "name": f"adapters-{world}-{seed}", "seed": seed, "root": str(folder_of(world)), "max_length": 96, "holdout": 0.0,
        "store": str((folder_of(world) / "store").resolve()), "embed": None, "tags": None, "probe": None, "distance": None,
        "law": "uniform", "exports": ["chat_jsonl"], "evaluate": {"max_samples": 100}, **fields,
    })  # fmt: skip


def settings(adapter: Mapping[str, Any], rate: float, *, epochs: int = 1) -> dict[str, Any]:
    """Return how an arm trains."""
    return {"adapter": dict(adapter), "epochs": epochs, "batch_size": BATCH, "learning_rate": rate, "threads": 1}


def budget(steps: int) -> dict[str, Any]:
    """Return the budget of so many optimiser steps."""
    return {"amount": steps * BATCH, "unit": "samples", "max_repeats": 3}


def carried_out(read: Any) -> dict[str, Artifact]:
    """Carry out a recipe, or find it carried out, without a word."""
    from flows.pipeline import make_plan
    from flows.shell import carry_out

    with redirect_stderr(StringIO()):
        store = Store(read.store)
        return carry_out(make_plan(read, store).until("retain"), store, plain=True)


def run(world: int, seed: int, arm: str, rate: float, base: str) -> dict[str, Any]:
    """Carry out one arm at one rate and return what it learned and kept."""
    if arm == "lotto":
        n_old = 3 * 300 * len(OLD)
        found = carried_out(recipe(
            world, seed, base_model={"path": base}, sources=sources(seed, trained=(*OLD, *NEW)), sequence=[OLD, NEW],
            budget={"amount": n_old + 3 * 128 * len(NEW), "unit": "samples", "max_repeats": 3},
            train=settings(ARMS[arm], rate),
        ))  # fmt: skip
    else:
        own = budget(3 * 300 * len(OLD) // BATCH)
        first = recipe(
            world, seed, base_model={"path": base}, sources=sources(seed, trained=OLD), budget=own,
            train=settings({"name": "full"}, 1e-3),
        )  # fmt: skip
        old = carried_out(first)["train"].path / "model"
        steps = {"mola": STEPS // 2, "lota": STEPS - CALIBRATION}.get(ARMS[arm]["name"], STEPS)
        found = carried_out(recipe(
            world, seed, base_model={"path": str(old)}, sources=sources(seed, trained=NEW), budget=budget(steps),
            train=settings(ARMS[arm], rate),
        ))  # fmt: skip
    return {"world": world, "seed": seed, "arm": arm, "rate": rate, **measured(found)}


def measured(found: Mapping[str, Artifact]) -> dict[str, Any]:
    """Return what the last stage learned and kept, how many parameters moved, what AdamW held of them, and its CPU seconds."""
    kept = found["retain"].json("retention.json")
    at = {domain: i for i, domain in enumerate(kept["domains"])}
    before, after = ({name: kept[name][row] for name in ("exact_match", "loss_nats_per_token")} for row in (-2, -1))
    old, was = (float(np.mean([each["exact_match"][at[task]] for task in OLD])) for each in (after, before))
    text = [each["loss_nats_per_token"][at["text"]] for each in (after, before)]
    last = [artifact for label, artifact in found.items() if label.startswith(("train", "mask")) and "+".join(OLD) not in label]
    return {
        "new": float(np.mean([after["exact_match"][at[task]] for task in NEW])), "old_before": was, "old": old,
        "retained": old / was if was else float("nan"), "text": text[0] - text[1],
        "parameters": last[-1].manifest.stats["trainable_parameters"],
        "optimizer_mb": last[-1].manifest.stats["optimizer_bytes"] / 1e6,
        "seconds": round(sum(artifact.manifest.made["cpu_seconds"] for artifact in last), 1),
    }  # fmt: skip


def chosen(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return every arm's learning rate: that of the largest harmonic mean of new and old skill."""
    out: dict[str, float] = {}
    for arm in ARMS:
        rates = sorted({each["rate"] for each in runs if each["arm"] == arm})
        means = [np.mean([_both(each) for each in runs if (each["arm"], each["rate"]) == (arm, rate)]) for rate in rates]
        out[arm] = rates[int(np.argmax(means))] if rates else float("nan")
    return out | {arm: share * out["full"] for arm, share in LOWER.items()}


def _both(run: Mapping[str, Any]) -> float:
    """Return the harmonic mean of new and old skill; retained skill alone would praise who had learned little of the old."""
    return 2 / (1 / run["new"] + 1 / run["old"]) if run["new"] and run["old"] else 0.0


def row(runs: Sequence[Mapping[str, Any]], arm: str, *, n_comparisons: int) -> dict[str, Any]:
    """Return an arm's means, and its paired differences from the control with their intervals."""
    value = {(each["arm"], each["world"], each["seed"]): each for each in runs}
    pairs = [(world, seed) for who, world, seed in value if who == arm]
    mine, control = ([value[(who, *pair)] for pair in pairs] for who in (arm, CONTROL))
    out: dict[str, Any] = {"arm": arm, "pairs": len(pairs), "rate": mine[0]["rate"]}
    for of in ("new", "old", "retained", "text", "parameters", "optimizer_mb", "seconds"):
        own, other = (np.array([each[of] for each in side], dtype=float) for side in (mine, control))
        out[of] = float(own.mean())
        if of in ("new", "retained", "text") and arm != CONTROL and len(own) > 1:
            found = paired(own, other, n_comparisons=n_comparisons)
            halves = {"half": found.high - found.difference, "half_corrected": found.high_corrected - found.difference}
            out[f"{of}_difference"] = {"mean": found.difference, **halves}
    return out


def swept(submit: Any, asked: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return what the runs gave, told one by one."""
    begun, runs = time.time(), []
    for done in as_completed([submit(run, *each) for each in asked]):
        runs.append(done.result())
        told = {name: round(value, 4) if isinstance(value, float) else value for name, value in runs[-1].items()}
        shown = ", ".join(f"{name} {value}" for name, value in told.items())
        left = (time.time() - begun) / len(runs) * (len(asked) - len(runs))
        print(f"{len(runs)} of {len(asked)}, {left / 60:.0f} minutes left: {shown}", file=sys.stderr, flush=True)
    return sorted(runs, key=lambda each: (list(ARMS).index(each["arm"]), each["world"], each["seed"], each["rate"]))


def main() -> None:
    """Sweep the rates on the tuning seeds, carry out every arm on the others, and keep the table."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    pairs: list[Pair] = [*TUNING, *REPORTED]
    worlds = {world: [seed for w, seed in pairs if w == world] for world, _ in pairs}
    with ProcessPoolExecutor(max(2, os.cpu_count() or 2), mp_context=multiprocessing.get_context("spawn")) as workers:
        made = workers.map(make_world, worlds, worlds.values())
        bases = {world: str(path.resolve()) for world, path in zip(worlds, made, strict=True)}
        tuned = [arm for arm in ARMS if arm not in LOWER]
        tries = [(pair, arm, rate) for pair in TUNING for arm in tuned for rate in RATES[arm]]
        sweep = swept(workers.submit, [(*pair, arm, rate, bases[pair[0]]) for pair, arm, rate in tries])
        rates = chosen(sweep)
        runs = swept(workers.submit, [(world, seed, arm, rates[arm], bases[world]) for world, seed in REPORTED for arm in ARMS])
    table = [row(runs, arm, n_comparisons=len(ARMS) - 1) for arm in ARMS]
    sizes = {"old": OLD, "new": NEW, "steps": STEPS, "batch": BATCH, "calibration": CALIBRATION, "rates": RATES}
    told = {"table": table, "control": CONTROL, "tuning": sweep, "runs": runs}
    write_result("adapters", {"name": "adapters", "ratios": [], "sizes": sizes, "machine": machine(), **told})
    show(table)


def show(table: Sequence[Mapping[str, Any]]) -> None:
    """Print the table as it was measured."""
    widths = {"rate": 8, "new": 6, "retained": 9, "text": 7, "parameters": 11, "AdamW, MB": 10, "CPU s": 8}
    print(f"{'arm':26s} " + " ".join(f"{name:>{width}s}" for name, width in widths.items()))
    shapes = "{rate:8.1e} {new:6.3f} {retained:9.3f} {text:+7.3f} {parameters:11,.0f} {optimizer_mb:10.2f} {seconds:8.1f}"
    for each in table:
        print(f"{each['arm']:26s} {shapes.format(**each)}")
        for of in ("new", "retained", "text"):
            if gap := each.get(f"{of}_difference"):
                print(f"    {of} {gap['mean']:+.3f} +- {gap['half']:.3f} (corrected {gap['half_corrected']:.3f})")


if __name__ == "__main__":
    main()
