"""`replay budget`: how much replay a recipe needs, found by running it at several doses and seeds.

A dose is the policy's ``per_task``. Every run is the recipe itself, carried out until it says what was forgotten, in the
recipe's own store, so that what is complete is not done again. A seed is a recipe's seed: which rows are held out and drawn,
what is replayed, and what is random in training. It is not another base model: a recipe that trains its base does so once,
with its own seed, and every run starts from it. Training one for each seed would cost more than all else, and would mix what a
base model happens to know with what replay does.

What does not depend on the dose is done once for each seed; a probe is among it where the law needs what it finds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from composer.artifact import Artifact, Store
from composer.errors import InputError, SpecError
from composer.progress import say
from composer.replay.dose import Run, fit_dose_response, smallest_dose
from flows.pipeline import make_plan
from flows.plan import Step
from flows.recipe import Recipe, read_recipe
from flows.shell import carry_out

RESAMPLES = 2_000
ENOUGH_SEEDS = 6  # from here on few seeds are no longer what limits the interval
NOTE = (
    "Forgetting is the share of exact match that a task lost from its own stage to the end, the mean over the tasks before the "
    "last stage. The interval covers what a seed changes: the rows held out and drawn, the replay and the training. It does "
    "not cover another base model, other tasks, other sizes or another measure."
)


@dataclass(frozen=True)
class Trial:
    """One run that was carried out: what was forgotten, how many tasks could not tell, and where it stands."""

    dose: int
    seed: int
    forgetting: float
    left_out: tuple[str, ...]
    replayed_per_task: float
    retention: str
    made: int

    def told(self) -> dict[str, Any]:
        """Return the run as plain values."""
        return {**vars(self), "left_out": list(self.left_out)}


def read_doses(text: str) -> tuple[int, ...]:
    """Return the doses of a comma-separated list, rising.

    Raises
    ------
    InputError
        For anything but two or more different whole numbers, none negative.

    Examples
    --------
    >>> read_doses("20, 0,5")
    (0, 5, 20)
    """
    words = [word.strip() for word in text.split(",")]
    doses = sorted({int(word) for word in words if word.isdecimal()})
    if len(doses) < max(2, len(words)):
        raise InputError("not a list of doses", where="--doses", expected="different whole numbers, such as 0,5,20", got=text)
    return tuple(doses)


def budget(
    path: str | Path, overrides: Sequence[str] = (), *, accept: float, doses: Sequence[int], n_seeds: int, store: str | None
) -> dict[str, Any]:
    """Run a recipe at every dose and seed and return the smallest dose that keeps forgetting at or below ``accept``.

    Raises
    ------
    InputError
        Where the recipe has no sequence, no replay or no training, for a design that makes no curve (see
        :func:`composer.replay.dose.smallest_dose`), and where a run learned nothing that it could forget.
    """
    begun, recipe = time.time(), read_recipe(path, overrides)
    _check(recipe, accept=accept, doses=doses, n_seeds=n_seeds)
    where = recipe.store_at(store)
    seeds = [recipe.seed + i for i in range(n_seeds)]
    trials = []
    for i, (seed, dose) in enumerate(product(seeds, doses), start=1):
        say(f"run {i} of {len(seeds) * len(doses)}: dose {dose}, seed {seed}")
        trial = _trial(path, overrides, dose=dose, seed=seed, base_seed=recipe.seed, store=where)
        state = f"{trial.made} steps done" if trial.made else "was there"
        say(f"  forgetting {trial.forgetting:.3f} ({state})")
        trials.append(trial)
    return {
        "recipe": recipe.name,
        "store": str(where),
        "policy": recipe.replay.name,
        "unit": recipe.budget.unit,
        **_answer(trials, accept=accept, seed=recipe.seed),
        "runs": [trial.told() for trial in trials],
        "minutes": round((time.time() - begun) / 60, 2),
    }


def _check(recipe: Recipe, *, accept: float, doses: Sequence[int], n_seeds: int) -> None:
    if len(recipe.groups) < 2:
        hint = "list the domains in the order of training: sequence: [law, code]"
        got = f"{len(recipe.groups)} group of domains"
        what = "nothing is forgotten without a sequence"
        raise SpecError(what, where="sequence", expected="two groups or more", got=got, hint=hint)
    if recipe.replay.name == "none":
        raise SpecError("this recipe replays nothing", where="replay", hint="name a policy, such as replay.name=random")
    if recipe.train is None:
        raise SpecError("this recipe trains nothing", where="train", got="null", hint="say how to train")
    if not 0 <= accept < 1:
        raise InputError("not a share of forgetting to accept", where="--accept", expected="0 or more and below 1", got=accept)
    if len(set(doses)) < 2:
        raise InputError("too few doses for a curve", where="--doses", expected="2 or more", got=len(set(doses)))
    if n_seeds < 2:
        raise InputError("too few seeds for an interval", where="--seeds", expected="2 or more", got=n_seeds)


def _trial(path: str | Path, given: Sequence[str], *, dose: int, seed: int, base_seed: int, store: Store) -> Trial:
    recipe = read_recipe(path, [*given, f"replay.per_task={dose}", f"seed={seed}"])
    made: list[str] = []

    def told(step: Step, artifact: Artifact, was_there: bool) -> None:  # noqa: ARG001
        made.extend([] if was_there else [step.label])

    plan = make_plan(recipe, store, base_seed=base_seed).until("retain")
    artifacts = carry_out(plan, store, plain=True, told=told)
    [retained] = [each for each in artifacts.values() if each.kind == "retention"]
    schedules = [a for a in artifacts.values() if a.kind == "schedule" and a.manifest.stats["policy"] == recipe.replay.name]
    try:
        share, left_out = forgetting(retained.json("retention.json"))
    except InputError as error:
        raise error.within(f"dose {dose}, seed {seed}") from None
    return Trial(
        dose=dose, seed=seed, forgetting=share, left_out=left_out, made=len(made),
        replayed_per_task=_replayed(schedules[-1].json("schedule.json"), earlier=recipe.earlier),
        retention=f"{retained.kind}/{retained.key}",
    )  # fmt: skip


def forgetting(report: Mapping[str, Any]) -> tuple[float, tuple[str, ...]]:
    """Return the mean forgetting of the tasks before the last stage, and the tasks that were left out of it.

    A task's forgetting is ``(own - last) / own`` of its exact match, at most 1; it is below zero where the task became better.
    A task that had learned nothing at its own stage, or was not measured, has none and is left out.

    Parameters
    ----------
    report
        What :func:`probes.retention.retention` returns.

    Raises
    ------
    InputError
        Where every task is left out.
    """
    *before, last = report["current"]
    tasks = [domain for domain in dict.fromkeys(d for group in before for d in group) if domain not in last]
    rates = {task: report["forgetting"].get(task, {}).get("exact_match_rate") for task in tasks}
    shares = [min(rate / 100, 1.0) for rate in rates.values() if rate is not None]
    if not shares:
        raise InputError(
            "no task was learned, so none can be forgotten", where="evaluate", got=", ".join(tasks),
            expected="an exact match above 0 after a task's own stage", hint="train longer, or measure more held-out rows",
        )  # fmt: skip
    return math.fsum(shares) / len(shares), tuple(task for task, rate in rates.items() if rate is None)


def _replayed(schedule: Mapping[str, Any], *, earlier: Sequence[str]) -> float:
    """Return the planned replay per earlier task, the mean over all phases; it is below the dose where tasks are too small."""
    learned, amount, n_earlier = list(earlier), 0.0, 0
    for phase in schedule["phases"]:
        shares = dict(zip(phase["mixture"]["domains"], phase["mixture"]["weights"], strict=True))
        amount += phase["amount"] * sum(share for domain, share in shares.items() if domain not in phase["current"])
        n_earlier += len(learned)
        learned += [domain for domain in phase["current"] if shares.get(domain)]
    return amount / n_earlier if n_earlier else 0.0


def _answer(trials: Sequence[Trial], *, accept: float, seed: int) -> dict[str, Any]:
    """Return the curve, the smallest dose with its interval, and what to beware of."""
    runs = [Run(trial.dose, trial.seed, trial.forgetting) for trial in trials]
    curve, found = fit_dose_response(runs), smallest_dose(runs, accept=accept, resamples=RESAMPLES, seed=seed)
    by_seed = [{run.seed: run.forgetting for run in runs if run.dose == dose} for dose in curve.doses]
    return {
        "doses": [
            {"dose": int(dose), "forgetting": mean, "fitted": fitted, "by_seed": seeds}
            for dose, mean, fitted, seeds in zip(curve.doses, curve.mean, curve.fitted, by_seed, strict=True)
        ],
        "answer": {**found.model_dump(mode="json"), "per_task": None if found.dose is None else math.ceil(found.dose)},
        "says": str(found),
        "warnings": _warnings(trials, n_seeds=found.n_seeds),
        "note": NOTE,
    }


def _warnings(trials: Sequence[Trial], *, n_seeds: int) -> list[str]:
    warnings = []
    if n_seeds < ENOUGH_SEEDS:
        most = 1 - 2.0 ** (1 - n_seeds)
        warnings.append(f"with {n_seeds} seeds an interval can hardly cover the truth in more than {100 * most:.0f} % of cases")
    for dose in dict.fromkeys(trial.dose for trial in trials):
        given = [trial.replayed_per_task for trial in trials if trial.dose == dose]
        if (mean := sum(given) / len(given)) < dose - 0.5:
            warnings.append(f"dose {dose}: the earlier tasks can give only {mean:.1f} each")
    if left := [f"{task} (dose {t.dose}, seed {t.seed})" for t in trials for task in t.left_out]:
        shown = f"{', '.join(left[:3])}{' ...' if len(left) > 3 else ''}"
        warnings.append(f"left out as never learned, {len(left)} times: {shown}")
    return warnings


def show(document: Mapping[str, Any]) -> None:
    """Print what was found."""
    from flows.screen import out, table

    seeds = list(document["doses"][0]["by_seed"])
    rows = [(str(each["dose"]), each["forgetting"], each["fitted"], *each["by_seed"].values()) for each in document["doses"]]
    unit = document["unit"].replace("_", " ")
    title = f"Forgetting by dose, {unit} of replay per earlier task (policy {document['policy']})"
    out.print(table(title, ("dose", "mean", "fitted", *(f"seed {seed}" for seed in seeds)), rows))
    answer = document["answer"]
    lines = [f"{document['says']}."]
    if answer["per_task"] is not None:
        lines.append(f"In the recipe: replay: {{name: {document['policy']}, per_task: {answer['per_task']}}}")
    made = sum(run["made"] for run in document["runs"])
    lines += [f"warning: {each}" for each in document["warnings"]]
    lines += [document["note"], f"{len(document['runs'])} runs, {made} steps done, {document['minutes']:.1f} minutes."]
    lines += [f"store: {document['store']} (sft-composer show retention/KEY; the keys are in --json)"]
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)
