"""The controls of a trial: what the arms must be better than, by what they vary of the recipe.

A new law has to beat no law, a new replay policy the same number of rows drawn plainly or not replayed at all, and whatever is
to forget less a lower learning rate, which forgets less for nothing. Every trial has its controls; none can be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flows.recipe import Recipe
from flows.trials.arms import Arm

LOWER = 0.5  # of the learning rate: it keeps visibly more and still learns (docs/LOG.md, adapters at matched budgets)
PASSES = 8  # a row of padding may come so often; where a task is too small for that, the summary says what came


def controls(arms: Sequence[Arm], recipe: Recipe) -> tuple[Arm, ...]:
    """Return the controls that belong to what these arms vary, each once, by its name."""
    varied = {key for arm in arms for key in arm.changes}
    first = {key.partition(".")[0] for key in varied}
    found: list[Arm] = []
    if "law" in first:
        found += _of_laws()
    if first & {"replay", "replay_select"}:
        found += _of_replay(arms, recipe)
    if "select" in first:
        found.append(Arm(name="random rows", changes={"select": "uniform"}, why="the same amounts, of any rows"))
    if any(key == "train" or key.startswith("train.adapter") for key in varied):
        found += _of_adapters(recipe)
    elif "train" in first:
        found += [_as_it_stands(), _lower(recipe)]
    return tuple({arm.name: arm for arm in found or [_as_it_stands()]}.values())


def _as_it_stands() -> Arm:
    return Arm(name="recipe", why="the recipe as it stands")


def _of_laws() -> Iterator[Arm]:
    yield Arm(name="uniform", changes={"law": "uniform"}, why="no law: every domain the same share")
    yield Arm(name="proportional", changes={"law": "proportional"}, why="no law: the data as it lies")


def _of_replay(arms: Sequence[Arm], recipe: Recipe) -> Iterator[Arm]:
    changed = [value for arm in arms for key, value in arm.changes.items() if key == "replay.per_task"]
    changed += [arm.changes["replay"].get("per_task") for arm in arms if isinstance(arm.changes.get("replay"), dict)]
    told = [n for n in (recipe.replay.per_task, *changed) if n]
    size = {"per_task": told[0]} if told else {}
    for policy, why in (
        ("random", "as much replay, of any rows"),
        ("stratified", "as much replay, spread over the instructions"),
    ):
        yield Arm(name=policy, changes={"replay": {"name": policy, **size}, "replay_select": None}, why=why)
    repeats = max(recipe.budget.max_repeats, PASSES)
    padding = {"replay": {"name": "padding", **size}, "replay_select": None, "budget.max_repeats": repeats}
    yield Arm(name="padding", changes=padding, why="as many rows more, of the new tasks")
    lower = _lower(recipe)
    yield lower.model_copy(update={"changes": {"replay": "none", **lower.changes}, "why": f"no replay, {lower.why}"})


def _of_adapters(recipe: Recipe) -> Iterator[Arm]:
    lower = _lower(recipe)
    yield Arm(name="full", changes={"train.adapter": "full"}, why="all parameters, at the recipe's rate")
    yield lower.model_copy(
        update={"changes": {"train.adapter": "full", **lower.changes}, "why": f"all parameters, {lower.why}"}
    )


def _lower(recipe: Recipe) -> Arm:
    assert recipe.train is not None
    rate = LOWER * recipe.train.learning_rate
    return Arm(name="lower rate", changes={"train.learning_rate": rate}, why=f"at {LOWER:g} of the recipe's learning rate")
