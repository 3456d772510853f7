"""Adapters against one another at matched budgets: what is learned of new tasks, and what is kept of old ones.

A base model of the tiny world is first fine-tuned on three old tasks. Every arm then trains on two new ones, for as many
optimiser steps as all others: steps of a calibration and of single experts count. LoTTO alone cannot begin at the common model,
for it needs the mask of the old tasks: its own old stage is LoTA. Every arm's learning rate was swept over six values on the
tuning seeds (``--tune`` does it again), and the one with the largest harmonic mean of new and old skill afterwards was taken (a
sum is largest where nothing is learned); two more arms of full take half and a fifth of its rate.

Exact match is the mean over tasks, retained is the old tasks' after over before, text is the rise of the loss on documents of
the base in nats per token. Differences from ``full`` are paired by world and seed, with intervals of Student's t at 95 %, for
one comparison and corrected for all (Bonferroni), and a p value after Holm.

It resumes where it was stopped (its store is in ``runs/``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from _harness import QUICK, write_evidence
from _worlds import DOMAINS, WORLDS, Base, bases, carried_out, compared, recipe, seeds, show, swept, task_files, workers

from composer.artifact import Artifact

TUNE = "--tune" in sys.argv
OLD, NEW = ("opposite", "translate", "first"), ("last", "parity")
STEPS, BATCH, CALIBRATION = (6, 8, 2) if QUICK else (48, 16, 8)
TUNING = ((100, 51),) if QUICK else ((100, 51), (100, 52))
SEEDS = seeds(641, 4)
LOWER = {"full, half the rate": 0.5, "full, a fifth of the rate": 0.2}
CONTROL = "full"
LORA: dict[str, Any] = {"rank": 16, "alpha": 32}
ARMS: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    **{arm: {"name": "full"} for arm in LOWER},
    "lora": {"name": "lora", **LORA},
    "rslora": {"name": "lora", **LORA, "rslora": True},
    "osf": {"name": "osf"},
    "shira": {"name": "shira", "rank": 16},
    "loramoe": {"name": "loramoe", "rank": 4, "dropout": 0.0, "knowledge": ["last"]},
    "mola": {"name": "mola", "expert": LORA},
    "lota": {"name": "lota", "sparsity": 0.9, "calibration_steps": CALIBRATION},
    "lotto": {"name": "lota", "sparsity": 0.9, "calibration_steps": CALIBRATION},
}
WHOLE, THIN = (3e-5, 6e-5, 1e-4, 2e-4, 3e-4, 1e-3), (1e-4, 3e-4, 6e-4, 1e-3, 2e-3, 3e-3)
HIGH = {"osf": (3e-4, 1e-3, 2e-3, 3e-3, 6e-3, 1e-2), "lotto": (1e-3, 3e-3, 6e-3, 1e-2, 2e-2, 3e-2)}
RATES = {arm: WHOLE if arm == "full" else THIN for arm in ARMS} | HIGH
CHOSEN = {  # of RATES, on the tuning seeds (docs/LOG.md, 2026-11-27)
    "full": 2e-4, "lora": 6e-4, "rslora": 3e-4, "osf": 2e-3, "shira": 6e-4, "loramoe": 1e-3, "mola": 6e-4, "lota": 6e-4,
    "lotto": 6e-3,
}  # fmt: skip
MEASURES = ("new", "old", "retained", "text")
if QUICK:
    ARMS = {arm: ARMS[arm] for arm in ("full", "lora", "loramoe", "mola", "lota")}
    RATES = dict.fromkeys(ARMS, (1e-3,))


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


def settings(adapter: Mapping[str, Any], rate: float, *, epochs: int = 1) -> dict[str, Any]:
    """Return how an arm trains."""
    return {"adapter": dict(adapter), "epochs": epochs, "batch_size": BATCH, "learning_rate": rate, "threads": 1}


def budget(steps: int) -> dict[str, Any]:
    """Return the budget of so many optimiser steps."""
    return {"amount": steps * BATCH, "unit": "samples", "max_repeats": 3}


def run(arm: str, world: int, seed: int, base: Base, rate: float) -> dict[str, Any]:
    """Carry out one arm at one rate and return what it learned and kept."""
    if arm == "lotto":
        n_old = 3 * 300 * len(OLD)
        found = carried_out(recipe(
            world, seed, base.model, sources=sources(seed, trained=(*OLD, *NEW)), sequence=[OLD, NEW], law="uniform",
            budget={"amount": n_old + 3 * 128 * len(NEW), "unit": "samples", "max_repeats": 3},
            train=settings(ARMS[arm], rate),
        ))  # fmt: skip
    else:
        first = recipe(
            world, seed, base.model, sources=sources(seed, trained=OLD), budget=budget(3 * 300 * len(OLD) // BATCH),
            train=settings({"name": "full"}, 1e-3), law="uniform",
        )  # fmt: skip
        old = carried_out(first, until="train")["train"].path / "model"
        steps = {"mola": STEPS // 2, "lota": STEPS - CALIBRATION}.get(ARMS[arm]["name"], STEPS)
        found = carried_out(recipe(
            world, seed, str(old), sources=sources(seed, trained=NEW), budget=budget(steps), law="uniform",
            train=settings(ARMS[arm], rate),
        ))  # fmt: skip
    return {"arm": arm, "world": world, "seed": seed, "rate": rate, **measured(found)}


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


def tuned(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return every arm's learning rate: that of the largest harmonic mean of new and old skill."""
    out: dict[str, float] = {}
    for arm in dict.fromkeys(each["arm"] for each in runs):
        rates = sorted({each["rate"] for each in runs if each["arm"] == arm})
        means = [np.mean([_both(each) for each in runs if (each["arm"], each["rate"]) == (arm, rate)]) for rate in rates]
        out[arm] = rates[int(np.argmax(means))]
    return out


def _both(run: Mapping[str, Any]) -> float:
    """Return the harmonic mean of new and old skill; retained skill alone would praise who had learned little of the old."""
    return 2 / (1 / run["new"] + 1 / run["old"]) if run["new"] and run["old"] else 0.0


def sweep(pool: Any) -> dict[str, float]:
    """Carry out every arm at all its rates on the tuning seeds, and return the rates that come out best."""
    for world in dict.fromkeys(world for world, _ in TUNING):
        task_files(world, [seed for at, seed in TUNING if at == world])
    made = bases(pool, list(dict.fromkeys(world for world, _ in TUNING)))
    arms = [arm for arm in ARMS if arm not in LOWER]
    asked = [(arm, *pair, made[pair[0]], rate) for arm in arms for rate in RATES[arm] for pair in TUNING]
    return tuned(swept(pool, run, asked))


def costs(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return of every arm its rate, the parameters that move, what AdamW holds of them, and CPU seconds (means)."""
    return [
        {"arm": arm, **{of: float(np.mean([each[of] for each in runs if each["arm"] == arm]))
                        for of in ("rate", "parameters", "optimizer_mb", "seconds")}}
        for arm in ARMS
    ]  # fmt: skip


def main() -> None:
    """Carry out every arm at its rate, compare them, and keep the tables."""
    with workers() as pool:
        rates = sweep(pool) if TUNE or QUICK else CHOSEN
        rates = rates | {arm: share * rates[CONTROL] for arm, share in LOWER.items()}
        made = bases(pool, WORLDS)
        for world in WORLDS:
            task_files(world, SEEDS)
        runs = swept(pool, run, [(arm, w, seed, made[w], rates[arm]) for arm in ARMS for seed in SEEDS for w in WORLDS])
    tables = {of: compared(runs, of=of, control=CONTROL, n_comparisons=len(ARMS) - 1) for of in MEASURES}
    sizes = {"old": OLD, "new": NEW, "steps": STEPS, "batch": BATCH, "calibration": CALIBRATION, "rates": rates}
    write_evidence("adapters", control=CONTROL, sizes=sizes, tables=tables, runs=runs, costs=costs(runs))
    for of, table in tables.items():
        show(f"{of}: mean, difference from {CONTROL} with its 95 % interval", table)


if __name__ == "__main__":
    main()
