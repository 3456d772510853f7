"""Tiny worlds in which methods are judged: bases of known mixture, rows to look at apart from rows to score, runs in pairs.

A world has entities, words and a base model of its own; a seed decides which rows are drawn and the order of training, and is
the same for all arms, so that differences are paired. Worlds 51 to 53 are reported. World 100 and seeds below 100 are for
tuning, and every script keeps its seeds apart from those of the others and from all that were used before.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _harness import LONG, QUICK

from composer.artifact import Artifact, Store
from composer.trial import holm, paired

ROOT = Path(__file__).parents[1] / "runs" / (f"quick-{Path(sys.argv[0]).stem}" if QUICK else "evidence")
DOMAINS = ("law", "medicine", "finance", "science", "code", "general")
WORLDS = (51,) if QUICK else (51, 52, 53)
MIXTURES = {  # parts of every domain in what a base reads
    100: (34, 24, 6, 8, 18, 10),
    51: (34, 24, 6, 8, 18, 10),
    52: (10, 5, 40, 5, 10, 30),
    53: (5, 10, 10, 50, 15, 10),
}
SMALL = {"documents": 400, "layers": 1, "hidden": 64, "heads": 2} if QUICK else {}
Run = dict[str, Any]


def seeds(first: int, n: int) -> tuple[int, ...]:
    """Return n seeds from the first one on, three times as many with ``--long`` and one in a hurry."""
    return tuple(range(first, first + (1 if QUICK else 3 * n if LONG else n)))


class Base(NamedTuple):
    """A world's base model, and what a probe found it to know (shares in the order of ``DOMAINS``)."""

    model: str
    knows: tuple[float, ...]


def folder_of(world: int) -> Path:
    """Return where a world lies, with the store of all its runs."""
    return ROOT / f"world-{world}"


def make_base(world: int) -> Base:
    """Write a world, train its base model and probe it; what is there is not made again."""
    from flows.demo.story import quiet_arm
    from flows.demo.world import World, write

    folder, here = folder_of(world), World(seed=world)
    write(here, folder / "world", seed=1, documents=7_000)
    _part(folder)
    parts = dict(zip(DOMAINS, np.array(MIXTURES[world]) / sum(MIXTURES[world]), strict=True))
    changes = {"threads": 1, "weights": json.dumps(parts), **SMALL}
    settings = [f"base_model.train.{name}={value}" for name, value in changes.items()]
    made = quiet_arm(folder, "domains", "probe", f"seed={world}", f"probe.samples={100 if QUICK else 1_000}", *settings)
    base, known = (folder / "store" / kind / key for kind, key in (made["base"], made["probe"]))
    shares = json.loads((known / "knowledge.json").read_text(encoding="utf-8"))["p"]
    return Base(str((base / "model").resolve()), tuple(shares))


def _part(folder: Path) -> None:
    """Divide the questions that training never shows in that wording: every other one is looked at, the rest scored."""
    (folder / "asked").mkdir(exist_ok=True)
    for domain in DOMAINS:
        lines = (folder / "world" / "questions" / f"{domain}.jsonl").read_text(encoding="utf-8").splitlines()
        rows, turn = [json.loads(line) for line in lines], 0
        for row in rows:
            if row["split"] == "known":
                row["split"], turn = ("look", "score")[turn % 2], turn + 1
        parted = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "asked" / f"{domain}.jsonl").write_text(parted, encoding="utf-8")


def task_files(world: int, seeds: Sequence[int]) -> None:
    """Write the tasks of a world for every seed, to train on and to be tested by: ``tasks-<seed>/<task>.jsonl``."""
    from flows.demo.tasks import tasks
    from flows.demo.world import World

    for seed in seeds:
        folder = folder_of(world) / f"tasks-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        for task, rows in tasks(World(seed=world), seed=seed).items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{task}.jsonl").write_text(lines, encoding="utf-8")


def questions() -> list[dict[str, Any]]:
    """Return the sources of six domains: rows to train on and to look at and, as domains of their own, rows to score.

    ``<domain>-known`` are facts that are trained on, in another wording; ``<domain>-new`` are those that only the base read.
    """
    out: list[dict[str, Any]] = []
    for domain in DOMAINS:
        of = {"path": f"asked/{domain}.jsonl", "license": "Apache-2.0"}
        out.append({"name": domain, **of, "domain": domain, "where": {"split": "train"}})
        for split, name in (("look", domain), ("score", f"{domain}-known"), ("new", f"{domain}-new")):
            out.append({"name": f"{domain}-{split}", **of, "domain": name, "role": "validation", "where": {"split": split}})
    return out


def recipe(world: int, seed: int, model: str, **fields: Any) -> Any:
    """Return a recipe of this world that begins at a model; nothing is embedded, tagged, probed or compared."""
    from flows.recipe import Recipe

    return Recipe(**{
        "name": f"evidence-{world}-{seed}", "seed": seed, "root": str(folder_of(world)), "base_model": {"path": model},
        "store": str((folder_of(world) / "store").resolve()), "max_length": 96, "holdout": 0.0, "embed": None, "tags": None,
        "probe": None, "distance": None, "exports": ["chat_jsonl"], "evaluate": {"max_samples": 100}, **fields,
    })  # fmt: skip


def training(rate: float, law: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return how an arm trains in full; a law that compares with references has them made on each domain alone."""
    reference = {"epochs": 1, "rows": 20} if QUICK else {"epochs": 10, "rows": 200}
    compares = law is not None and law["name"] in ("potential", "expansion")
    moving = {"law": law, **({"reference": reference} if compares else {})} if law else {}
    return {"adapter": {"name": "full"}, "epochs": 1, "batch_size": 24, "learning_rate": rate, "threads": 1, **moving}


def carried_out(read: Any, *, until: str = "retain") -> dict[str, Artifact]:
    """Carry out a recipe as far as a stage, or find it carried out, without a word."""
    from flows.pipeline import make_plan

    return _walked(make_plan(read, store := Store(read.store)).until(until), store)


def afterwards(read: Any) -> tuple[Artifact, Mapping[str, Mapping[str, float]]]:
    """Return a recipe's training, and what was measured of every domain after it; nothing is measured before it."""
    from flows.pipeline import make_plan
    from flows.plan import Plan

    plan = make_plan(read, store := Store(read.store)).until("evaluate")
    found = _walked(Plan(plan.recipe, tuple(step for step in plan if step.label != "evaluate before")), store)
    *_, last = (artifact for label, artifact in found.items() if label.startswith("evaluate"))
    return found["train"], last.json("evaluation.json")


def _walked(plan: Any, store: Store) -> dict[str, Artifact]:
    from flows.shell import carry_out

    with redirect_stderr(StringIO()):
        return carry_out(plan, store, plain=True)


def read_off(found: Mapping[str, Artifact], of: str, kind: str, *, stage: int = -1) -> dict[str, float]:
    """Return a measure of every domain's rows of a kind (``known`` or ``new``) after a stage."""
    kept = found["retain"].json("retention.json")
    return {domain: kept[of][stage][kept["domains"].index(f"{domain}-{kind}")] for domain in DOMAINS}


@contextmanager
def workers() -> Iterator[ProcessPoolExecutor]:
    """Give as many processes of one thread each as there are cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(2, os.cpu_count() or 2), mp_context=spawn, initializer=_settle) as pool:
        yield pool


def _settle() -> None:
    """Import what every run needs and let the collector pass over it: every training asks it to look through all there is."""
    for name in ("composer.train.trainer", "flows.pipeline", "flows.shell", "probes.engines.hf", "transformers.models.llama"):
        importlib.import_module(name)
    gc.freeze()


def bases(pool: ProcessPoolExecutor, worlds: Sequence[int]) -> dict[int, Base]:
    """Return the bases of the worlds, made side by side."""
    return dict(zip(worlds, pool.map(make_base, worlds), strict=True))


def swept(pool: ProcessPoolExecutor, run: Callable[..., Run], asked: Sequence[tuple[Any, ...]]) -> list[Run]:
    """Return what the runs gave, in the order they were asked for, told one by one with the time left.

    Ask arm by arm: arms of one world and seed share stages, and where they are carried out at once one waits for the other's.
    """
    begun, jobs = time.time(), [pool.submit(run, *each) for each in asked]
    for n, done in enumerate(as_completed(jobs), 1):
        told = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in done.result().items()}
        left = (time.time() - begun) / n * (len(jobs) - n) / 60
        shown = ", ".join(f"{name} {value}" for name, value in told.items() if not isinstance(value, dict))
        print(f"{n} of {len(jobs)}, {left:.0f} minutes left: {shown}", file=sys.stderr, flush=True)
    return [job.result() for job in jobs]


def compared(
    runs: Sequence[Mapping[str, Any]], *, of: str, control: str, n_comparisons: int, arms: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return of every arm its mean over the pairs, and its paired difference from the control with its intervals.

    ``p_holm`` is corrected for the arms of this table, and the wide interval for ``n_comparisons`` (Bonferroni).
    """
    value = {(each["arm"], each["world"], each["seed"]): each[of] for each in runs}
    names = list(arms or dict.fromkeys(each["arm"] for each in runs))
    out: list[dict[str, Any]] = []
    for name in names:
        pairs = [pair for who, *pair in value if who == name and (control, *pair) in value]
        mine, other = (np.array([value[(who, *pair)] for pair in pairs], dtype=float) for who in (name, control))
        row: dict[str, Any] = {"arm": name, "pairs": len(pairs), "mean": float(mine.mean())}
        if name != control and len(pairs) > 1:
            row |= paired(mine, other, n_comparisons=n_comparisons).model_dump(exclude={"n"})
        out.append(row)
    corrected = iter(holm([row["p"] for row in out if "p" in row]))
    return [row | ({"p_holm": next(corrected)} if "p" in row else {}) for row in out]


def show(title: str, table: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of arms as it was measured."""
    print(title)
    for each in table:
        told = f"  {each['arm']:34s} {each['mean']:8.3f}"
        if "difference" in each:
            told += "  {difference:+.3f} [{low:+.3f}, {high:+.3f}]".format(**each)
            told += " corrected [{low_corrected:+.3f}, {high_corrected:+.3f}]".format(**each)
            told += f" larger in {each['larger_in']} of {each['pairs']}"
        print(told)
