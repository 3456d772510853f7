"""The demo: the whole story in the tiny world, with the control beside each thing that is shown.

A base model is made of a known, skewed mixture and probed; questions are mixed by what it knows; the tuned model goes on with
nothing but one domain, or with half of it; and tasks are learned one after another under four replay policies. Each is one run
of one seed: enough to see forgetting and its repair, not enough to rank policies, and the demo says so.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from composer.artifact import Artifact, Store
from composer.progress import say
from flows.demo import picture

RECIPES = Path(__file__).parent
POLICIES = {picture.NONE: "none", "random": "random", "stratified": "stratified", picture.REPLAY: "distance"}
TARGET = "science"
AMOUNT = 4_000  # loss tokens of the second stage of training
DOCUMENTS = 7_000  # per domain; the base model reads 20,000 of all in its mixture

Run = dict[str, Any]


def run(folder: Path) -> Run:
    """Write the world, run every arm and return what came out, as plain values."""
    from flows.demo.world import World, write

    begun = time.time()
    say(f"writing the tiny world to {folder / 'world'}")
    write(World(), folder / "world", seed=1, documents=DOCUMENTS)
    say("training a base model of known mixture")
    arm(folder, "domains", "base")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores: more threads would fight
    workers = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with workers:
        first = workers.submit(quiet_arm, folder, "domains", None)
        tasks = {name: workers.submit(quiet_arm, folder, "tasks", None, *_policy(word)) for name, word in POLICIES.items()}
        done = {"domains": _heard("domains: probe, mixture, training", first)}
        start = _model(folder, done["domains"])
        second = {name: workers.submit(quiet_arm, folder, "domains", None, *_expansion(start, share))
                  for name, share in (("100 %", 1.0), ("50 %", 0.5))}  # fmt: skip
        done |= {name: _heard(f"tasks one after another, replay {name}", future) for name, future in tasks.items()}
        done |= {name: _heard(f"{TARGET} at {name}", future) for name, future in second.items()}
    document = _document(folder, done)
    document["lies"]["picture of it all"] = str(picture.draw(document, folder))
    return {"folder": str(folder), "seconds": round(time.time() - begun, 1), **document}


def arm(folder: Path, recipe: str, until: str | None, *overrides: str) -> Run:
    """Run one recipe of the demo and return its artifacts as ``{label: [kind, key]}``."""
    from flows.pipeline import make_plan
    from flows.recipe import read_recipe
    from flows.shell import carry_out

    read = read_recipe(RECIPES / f"{recipe}.yaml", [f"root={json.dumps(str(folder / 'world'))}", *overrides])
    store = Store(folder / "store")
    plan = make_plan(read, store)
    artifacts = carry_out(plan.until(until) if until else plan, store, plain=True)
    return {label: [artifact.kind, artifact.key] for label, artifact in artifacts.items()}


def quiet_arm(folder: Path, recipe: str, until: str | None, *overrides: str) -> Run:
    """Run one arm in a worker process, without its progress."""
    with redirect_stderr(StringIO()):
        return arm(folder, recipe, until, *overrides)


def _heard(what: str, future: Future[Run]) -> Run:
    result = future.result()
    say(f"  done: {what}")
    return result


def _policy(word: str) -> list[str]:
    return [
        f"name=tiny-tasks-{word}",
        f"replay={{name: {word}}}" if word == "none" else f"replay={{name: {word}, per_task: 20}}",
    ]


def _expansion(start: Path, share: float) -> list[str]:
    from flows.demo.world import DOMAINS

    rest = (1 - share) / (len(DOMAINS) - 1)
    weights = {domain: share if domain == TARGET else rest for domain in DOMAINS}
    return [
        f"name=tiny-{TARGET}-{round(100 * share)}",
        f"base_model={{path: {json.dumps(str(start.resolve()))}}}",
        f"law={{name: explicit, weights: {json.dumps(weights)}}}",
        f"budget.amount={AMOUNT}",
        "probe=null",
    ]


def _artifact(folder: Path, done: Run, label: str) -> Artifact:
    found = Store(folder / "store").find(*done[label])
    assert found is not None
    return found


def _model(folder: Path, done: Run) -> Path:
    return _artifact(folder, done, "train").path / "model"


def _document(folder: Path, done: Mapping[str, Run]) -> Run:
    base = _artifact(folder, done["domains"], "base")
    known = _artifact(folder, done["domains"], "probe").json("knowledge.json")
    made = base.json("base.json")["stats"]["domains"]
    report = _artifact(folder, done["domains"], "compose").json("report.json")
    at_hand = _at_hand(_artifact(folder, done["domains"], "pool"), report["unit"])
    retained = {name: _artifact(folder, done[name], "retain").json("retention.json") for name in POLICIES}
    expanded = {name: _artifact(folder, done[name], "retain").json("retention.json") for name in ("100 %", "50 %")}
    return {
        "probe": {
            "domains": known["domains"], "truth": [made[d]["document_share"] for d in known["domains"]], "p": known["p"],
            "low": known["low"], "high": known["high"], "n": known["n"], "accuracy": known["accuracy"],
        },
        "composition": {"unit": report["unit"], "shortages": report["shortages"],
                        "domains": [each | {"at_hand": at_hand[each["domain"]]} for each in report["domains"]]},
        "replayed": _replayed(_artifact(folder, done[picture.REPLAY], "compose").json("report.json")),
        "forgetting": {name: _forgetting(each) for name, each in retained.items()},
        "expansion": {name: _degradation(each) for name, each in expanded.items()},
        "lies": {"store": str(folder / "store"), "world": str(folder / "world"),
                 "mixed dataset": str(_artifact(folder, done["domains"], "export").path),
                 "tuned model": str(_model(folder, done["domains"]))},
    }  # fmt: skip


def _at_hand(pool: Artifact, unit: str) -> dict[str, float]:
    """Return the share of every domain in the data that there is to draw from, in the unit of the weights."""
    import polars as pl

    counted = pl.len() if unit == "samples" else pl.col(f"n_{unit}").sum()
    rows = pl.read_parquet(pool.file("samples.parquet")).filter(pl.col("role") == "target")
    found = dict(rows.group_by("domain").agg(counted.cast(pl.Int64)).iter_rows())
    return {domain: n / sum(found.values()) for domain, n in found.items()}


def _replayed(report: Run) -> list[Run]:
    """Return how many rows of every stage were new, and how many came back of which earlier task."""
    return [
        {
            "task": phase["name"], "new": sum(each["rows"] for each in phase["domains"] if not each["is_replay"]),
            "replayed": {each["domain"]: each["rows"] for each in phase["domains"] if each["is_replay"]},
        }
        for phase in report["phases"]
    ]  # fmt: skip


def _forgetting(report: Run) -> Run:
    """Return the exact match of every task, in training order, right after its own stage and at the end."""
    exact, stages = report["exact_match"], report["stages"]
    column = {task: report["domains"].index(task) for task in stages[1:]}
    own = {task: exact[stages.index(task)][j] for task, j in column.items()}
    end = {task: exact[-1][j] for task, j in column.items()}
    kept = [end[task] / own[task] for task in stages[1:-1] if own[task]]
    return {"own": own, "end": end, "kept": sum(kept) / len(kept) if kept else None}


def _degradation(report: Run) -> Run:
    """Return loss and exact match of the target and the mean of the others, before and after."""
    target = report["domains"].index(TARGET)
    others = [i for i in range(len(report["domains"])) if i != target]
    out: Run = {}
    for stage, row in (("before", 0), ("after", -1)):
        for measure in ("loss_nats_per_token", "exact_match"):
            values = report[measure][row]
            out[f"{stage}_{measure}"] = {"target": values[target], "others": sum(values[i] for i in others) / len(others)}
    return out


def show(document: Mapping[str, Any]) -> None:
    """Print the demo's summary."""
    from flows.screen import out, table
    from flows.views import shares_table

    probe, unit = document["probe"], document["composition"]["unit"]
    rows = list(zip(*(probe[f] for f in ("domains", "truth", "p", "low", "high")), strict=True))
    out.print(
        table(
            "1. What the base model was made of, and what the probe found",
            ("domain", "truth", "probed", "2.5 %", "97.5 %"),
            rows,
        )
    )
    off = sum(abs(t - p) for t, p in zip(probe["truth"], probe["p"], strict=True)) / 2
    even = sum(abs(t - 1 / len(probe["truth"])) for t in probe["truth"]) / 2
    out.print(
        f"Total variation from the truth {off:.3f} (guessing equal shares: {even:.3f}), {probe['n']} samples, "
        f"judge accuracy {probe['accuracy']:.3f}. The interval covers the sampling only.\n"
    )
    title = f"2. Composition: planned and realised shares of {unit.replace('_', ' ')}"
    out.print(shares_table(title, document["composition"]["domains"]))
    for short in document["composition"]["shortages"]:
        out.print(f"short: {short['domain']} planned {short['planned']}, available {short['available']}")
    tasks = document["forgetting"]["none"]["own"]
    rows = [("(just learnt)", *document["forgetting"]["none"]["own"].values(), None)]
    rows += [(name, *each["end"].values(), each["kept"]) for name, each in document["forgetting"].items()]
    title = "3. Five tasks one after another: exact match at the end, by replay policy"
    out.print(table(title, ("replay", *tasks, "kept"), rows))
    out.print(
        "just learnt: right after the task's own stage, without replay; kept: mean over the earlier tasks of the score at the "
        "end over the score after the task's own stage. It is one seed: enough to see forgetting and what replay brings back, "
        "not enough to say which policy is best.\n"
    )
    _show_expansion(document["expansion"])
    out.print(f"All of it took {document['seconds']:.0f} s. Where things lie:")
    for name, path in document["lies"].items():
        out.print(f"  {name}: {path}", soft_wrap=True, markup=False)
    out.print(
        f"Look around: sft-composer ls --store {document['lies']['store']} (or show, why, verify)", soft_wrap=True, markup=False
    )


def _show_expansion(expansion: Mapping[str, Any]) -> None:
    from flows.screen import out, table

    any_arm = next(iter(expansion.values()))
    rows = [
        ("before", *_cells(any_arm, "before")),
        *((f"{TARGET} at {name}", *_cells(arm, "after")) for name, arm in expansion.items()),
    ]
    columns = ("second stage", f"{TARGET}: exact", "loss", "others: exact", "loss")
    out.print(table(f"4. Going on with {TARGET} alone, or with half of it", columns, rows))


def _cells(arm: Mapping[str, Any], stage: str) -> list[float]:
    return [
        arm[f"{stage}_{measure}"][who] for who in ("target", "others") for measure in ("exact_match", "loss_nats_per_token")
    ]
