"""A trial as it is to be carried out: its arms with their controls, its seeds, and a recipe for each of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.errors import InputError, SpecError, nearest
from composer.spec import Spec, digest
from flows.recipe import Recipe, read_fields
from flows.trials.arms import Arm, gathered
from flows.trials.controls import controls
from flows.trials.measures import OF_A_DOMAIN, measure_of


class Design(Spec):
    """What was decided before anything ran; it bears the trial's identity."""

    name: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    measure: str
    worth: float
    vary_base: bool = False

    @property
    def controls(self) -> tuple[str, ...]:
        """The names of the controls."""
        return tuple(arm.name for arm in self.arms if arm.is_control)

    def run(self, arm: str, seed: int) -> str:
        """Return the name of one run."""
        return f"{arm}/{seed}"


@dataclass(frozen=True)
class Designed:
    """A design, the trial's recipe, and the fields from which the recipe of every run is made."""

    design: Design
    recipe: Recipe
    fields: Mapping[str, Any]

    def recipe_of(self, arm: Arm, seed: int) -> Recipe:
        """Return the recipe of one run."""
        return arm.of(self.fields, seed=seed)

    def base_seed(self, seed: int) -> int:
        """Return the seed with which the base model of a run is trained, where the recipe trains one."""
        return seed if self.design.vary_base else self.recipe.seed


def design(
    path: str | Path, overrides: Sequence[str] = (), *, arms: Sequence[Arm] = (), seeds: int | None = None,
    measure: str | None = None, worth: float | None = None, vary_base: bool = False,
) -> Designed:  # fmt: skip
    """Return the trial of a recipe; what is not said here is as the recipe's ``trial`` says it.

    The seeds are the recipe's and those after it. An arm that is a control by another name is that control.

    Raises
    ------
    InputError
        Where there is nothing to compare: no arms, arms that are alike, or controls alone.
    SpecError
        For a recipe that trains nothing, and for laws that cannot differ because all data is used.
    """
    fields = read_fields(path, overrides)
    recipe = Recipe(**fields)
    told = recipe.trial
    wanted = gathered([*(Arm(name=name, changes=changes) for name, changes in told.arms.items()), *arms])
    if recipe.train is None:
        raise SpecError("this recipe trains nothing", where="train", got="null", hint="say how to train")
    n = told.seeds if seeds is None else seeds
    if n < 2:
        raise InputError("too few seeds for an interval", where="--seeds", expected="2 or more", got=n)
    name = measure or told.measure or ("kept" if len(recipe.groups) > 1 else "loss")
    every = _with_controls(wanted, recipe, fields)
    _check_measure(name, recipe)
    made = Design(
        name=recipe.name, arms=every, seeds=tuple(recipe.seed + i for i in range(n)), measure=name,
        worth=worth or told.worth or measure_of(name).worth, vary_base=vary_base or told.vary_base,
    )  # fmt: skip
    return Designed(made, recipe, fields)


def _with_controls(arms: Sequence[Arm], recipe: Recipe, fields: Mapping[str, Any]) -> tuple[Arm, ...]:
    if not arms:
        hint = "say them in the recipe (trial.arms), by --arms law=inverse,knowledge or by --arm 'NAME key=value'"
        raise InputError("a trial without arms", where="arms", hint=hint)
    if recipe.budget.amount is None and any(key.partition(".")[0] == "law" for arm in arms for key in arm.changes):
        hint = "without it all data is used once, whatever the law says"
        raise SpecError("laws cannot differ", where="budget.amount", expected="an amount below what there is", hint=hint)
    beside: dict[str, Arm] = {}
    for arm in controls(arms, recipe):
        beside.setdefault(digest(arm.of(fields)), arm)
    judged: dict[str, Arm] = {}
    seen: dict[str, str] = {}
    for arm in arms:
        identity = digest(arm.of(fields))
        if identity in seen:
            raise InputError("two arms are alike", where="arms", got=f"{seen[identity]} and {arm.name}")
        seen[identity] = arm.name
        if identity in beside:
            beside[identity] = beside[identity].model_copy(update={"name": arm.name})
        else:
            judged[identity] = arm
    if not judged:
        got = ", ".join(arm.name for arm in arms)
        raise InputError("nothing to judge: these arms are the controls", where="arms", got=got, hint="add another arm")
    return gathered([*beside.values(), *judged.values()])


def _check_measure(name: str, recipe: Recipe) -> None:
    word, _, domain = name.partition(".")
    if domain and word in OF_A_DOMAIN and domain not in recipe.order:
        raise SpecError("no such domain", where="measure", got=domain, hint=nearest(domain, recipe.order))
    measure_of(name)
    if name in ("kept", "forgotten") and len(recipe.groups) < 2:
        raise SpecError("nothing is forgotten without a sequence", where="measure", got=name, hint="choose another measure")
