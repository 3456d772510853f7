"""The plan of a trial: the stories of all runs over one ``call``, in which what two runs share is one step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from composer.artifact import Store
from composer.fingerprint import Fingerprints
from flows.pipeline import run_story
from flows.plan import Plan, Step, Teller
from flows.recipe import Recipe
from flows.trials.design import Designed

COSTLY = frozenset({"train", "mask", "reference"})
"""Stages whose cost is an arm's own: what trains."""


@dataclass(frozen=True)
class Told:
    """One run as it was told: its retention, and what was trained for it, experts that only measure aside."""

    name: str
    retained: Step
    trained: tuple[Step, ...]
    steps: tuple[Step, ...]


class Once(Teller):
    """Tells a step that was told before, by another run, by giving it back."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[str, str], Step] = {}

    def __call__(self, command: str, label: str = "", /, **given: Any) -> Step:
        """Return the step of this stage with these values and inputs, told now or before."""
        step = super().__call__(command, label, **given)
        known = self._known.setdefault((step.stage.kind, step.key), step)
        if known is not step:
            self.steps.pop()
        return known


def trial_plan(trial: Designed, store: Store) -> Plan:
    """Return the plan of a trial, seed by seed and arm by arm, up to the step that compares them.

    A step that all runs share bears its plain label; others bear the arms and the seeds that need them.
    """
    call, prints, design = Once(), Fingerprints(store.root), trial.design
    told = [
        tell_run(call, design.run(arm.name, seed), trial.recipe_of(arm, seed), prints, base_seed=trial.base_seed(seed))
        for seed in design.seeds
        for arm in design.arms
    ]
    by_name = {each.name: (each.retained, *each.trained) for each in told}
    runs = {name: by_name[name] for arm in design.arms for name in (design.run(arm.name, seed) for seed in design.seeds)}
    call("trial", design=design, **runs)
    steps = Plan(trial.recipe, tuple(call.steps)).until("trial").steps
    return Plan(trial.recipe, tuple(labelled(steps, told)))


def tell_run(call: Once, name: str, recipe: Recipe, prints: Fingerprints, *, base_seed: int) -> Told:
    """Tell one run and return what matters of it."""
    report = run_story(recipe, call, prints, base_seed=base_seed)
    [retained] = [step for step in report.needs if step.stage.name == "retain"]
    *_, last = retained.inputs["evaluations"]  # type: ignore[misc]
    trained = tuple(step for step in _behind([last]) if step.stage.name in COSTLY)
    return Told(name, retained, trained, tuple(_behind([retained])))


def _behind(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield steps and all that they read, each once, after what it reads."""
    seen: set[int] = set()

    def walk(step: Step) -> Iterator[Step]:
        if id(step) not in seen:
            seen.add(id(step))
            for need in step.needs:
                yield from walk(need)
            yield step

    for step in steps:
        yield from walk(step)


def labelled(steps: Sequence[Step], told: Sequence[Told]) -> Iterator[Step]:
    """Yield the steps with labels that say whose they are."""
    owners: dict[int, list[str]] = {}
    for run in told:
        for step in run.steps:
            owners.setdefault(id(step), []).append(run.name)
    new: dict[int, Step] = {}
    for step in steps:
        inputs = {r: tuple(new[id(s)] for s in each) if isinstance(each, tuple) else new[id(each)]
                  for r, each in step.inputs.items()}  # fmt: skip
        whose = owner(owners.get(id(step), []), [run.name for run in told])
        new[id(step)] = replace(step, label=f"{step.label} ({whose})" if whose else step.label, inputs=inputs)
        yield new[id(step)]


def owner(names: Sequence[str], every: Sequence[str]) -> str:
    """Return whose a step is in words, empty where it is everyone's.

    Examples
    --------
    >>> every = ["a/1", "b/1", "c/1", "a/2", "b/2", "c/2"]
    >>> owner(["a/2"], every), owner(["a/2", "b/2", "c/2"], every), owner(["a/1", "b/1"], every), owner(every, every)
    ('a, seed 2', 'seed 2', 'a + b, seed 1', '')
    """
    if not names or len(names) == len(every):
        return ""
    arms, seeds = _sides(names)
    all_arms, all_seeds = _sides(every)
    whose = [] if arms.keys() == all_arms.keys() else [" + ".join(arms)]
    if seeds.keys() != all_seeds.keys():
        whose.append(f"seed {' + '.join(seeds)}")
    return ", ".join(whose)


def _sides(names: Sequence[str]) -> tuple[Mapping[str, None], Mapping[str, None]]:
    split = [name.rpartition("/") for name in names]
    return dict.fromkeys(arm for arm, _, _ in split), dict.fromkeys(seed for _, _, seed in split)
