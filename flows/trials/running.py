"""Carrying a trial out, with word of every run, and what it would do."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from composer.artifact import Artifact, Store
from composer.progress import bar, say
from flows.plan import Plan, Step
from flows.shell import carry_out
from flows.trials.design import Designed
from flows.trials.measures import measure_of
from flows.trials.plan import COSTLY, trial_plan

NOTE = (
    "A seed changes the rows held out and drawn, the replay and what is random in training, and is the same for all arms. "
    "{base} No run says anything of other data, other sizes or another measure. Intervals are Student's t over the seeds; p is "
    "corrected by Holm's method for all comparisons in the measure that is judged. How many seeds more are needed is told by "
    "the spread of those that were run, and is rough where these are few."
)
ONE_BASE = "All runs start from one base model."
OWN_BASE = "Every seed has a base model of its own, where the recipe trains one."


def carried_out(trial: Designed, store: Store, *, plain: bool, traces: bool = False) -> dict[str, Any]:
    """Carry out what is missing of a trial and return what came out, as plain values."""
    plan = trial_plan(trial, store)
    for unlike in unlike_doses(trial):
        say(f"warning: {unlike}")
    compared, done = walked(plan, store, until="trial", measure=trial.design.measure, plain=plain, traces=traces)
    return {**document(compared), **done}


def walked(plan: Plan, store: Store, *, until: str, measure: str, plain: bool, traces: bool) -> tuple[Artifact, dict[str, Any]]:
    """Carry out a plan of many runs with word of every one; return what its last step left, and what was done."""
    begun, made, read = time.time(), list[str](), measure_of(measure).read
    to_do = sum(not store.has(step.stage.kind, step.key) for step in plan)
    with bar(f"steps of the {until}", total=to_do, unit="steps") as shown:

        def told(step: Step, artifact: Artifact, was_there: bool) -> None:
            if not was_there:
                made.append(step.label)
                shown.advance()
            if step.stage.name == "retain":
                value = read(artifact.json("retention.json"))
                state = "was there" if was_there else f"{len(made)} of {to_do} steps done"
                whose = step.label.removeprefix("retain ").strip("()")
                say(f"{whose}: {measure} {'-' if value is None else f'{value:.3f}'} ({state})")

        last = carry_out(plan, store, plain=plain, told=told, traces=traces)[until]
    minutes = round((time.time() - begun) / 60, 2)
    return last, {"store": str(store), "steps": len(plan.steps), "made": len(made), "minutes": minutes}


def document(compared: Artifact) -> dict[str, Any]:
    """Return what a trial found, with its costs, as plain values."""
    told = compared.json("trial.json")
    base = OWN_BASE if told["design"]["vary_base"] else ONE_BASE
    return {
        "trial": f"{compared.kind}/{compared.key}", **told, "spent": compared.manifest.stats["spent"],
        "warnings": _warnings(told), "note": NOTE.format(base=base),
    }  # fmt: skip


def unlike_doses(trial: Designed) -> list[str]:
    """Say before anything runs where arms replay unlike amounts, for what differs then may be the amount and not the policy."""
    doses = {arm.name: trial.recipe_of(arm, trial.design.seeds[0]).replay.per_task for arm in trial.design.arms}
    if len(set(doses.values()) - {0}) < 2:
        return []
    told = ", ".join(f"{arm} {n:,}" for arm, n in doses.items() if n)
    return [f"arms replay unlike amounts per earlier task: {told}; replay.name=POLICY changes the policy alone"]


UNEQUAL = 0.02


def _warnings(told: dict[str, Any]) -> list[str]:
    """Say what stands against the verdicts: arms that trained on unlike amounts."""
    tokens = {arm: each["loss_tokens"] for arm, each in told["trained"].items()}
    most = max(tokens.values())
    less = [f"{arm} {n:,.0f}" for arm, n in tokens.items() if n < (1 - UNEQUAL) * most]
    return [f"the budgets differ: some trained on {most:,.0f} loss tokens, but {', '.join(less)}"] if less else []


def preview(trial: Designed, store: Store) -> dict[str, Any]:
    """Return what a trial would do: its arms, what is there and what is to do, and what the trainings would take."""
    design = trial.design
    return {
        "design": design.identity(), "runs": len(design.arms) * len(design.seeds), **outlook(trial_plan(trial, store), store),
        "warnings": unlike_doses(trial),
    }  # fmt: skip


def outlook(plan: Plan, store: Store) -> dict[str, Any]:
    """Return what is there of a plan of many runs, what is to do, and what it would take."""
    there = {id(step): store.find(step.stage.kind, step.key) for step in plan}
    to_do = Counter(step.stage.name for step in plan if there[id(step)] is None)
    return {
        "store": str(store), "steps": len(plan.steps), "to_do": dict(to_do),
        "shared": sum("(" not in step.label for step in plan), "seconds": _seconds(plan, there),
    }  # fmt: skip


def _seconds(plan: Plan, there: dict[int, Artifact | None]) -> float | None:
    """Return what the steps to do may take, by the mean of those of their stage that are there; None where one has none."""
    made: dict[str, list[float]] = {}
    for step in plan:
        if found := there[id(step)]:
            made.setdefault(step.stage.name, []).append(found.manifest.made["seconds"])
    wanted = [step.stage.name for step in plan if there[id(step)] is None]
    if any(name not in made for name in wanted if name in COSTLY or name == "evaluate"):
        return None
    return round(sum(sum(made[name]) / len(made[name]) for name in wanted if name in made), 1)
