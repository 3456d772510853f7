"""The story of what is trained on, when: phases with replay, the rows of each, and training phase after phase.

A policy that reads what was forgotten (its needs name ``forgetting``) is told phase by phase, since phase i is planned after
phase i - 1 was measured; all others are planned whole, before any training. Either way one schedule and one composition of all
phases are left and exported, and the phases that were trained on are theirs to the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from composer.replay import REPLAY
from composer.spec import member
from flows.making import by_itself, made_before, made_for
from flows.plan import Call, Step
from flows.recipe import Recipe

SCORES = ("score", "cover", "interfere")
"""Steps that leave scores of instructions."""


@dataclass(frozen=True)
class Ground:
    """What the story stands on: the recipe, what names the model, and the steps up to the mixture."""

    recipe: Recipe
    call: Call
    model: Mapping[str, Any]
    parts: tuple[Step, ...]
    samples: Step
    measured: Mapping[str, Step]
    mixture: Step

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases' names."""
        return tuple("+".join(group) for group in self.recipe.groups) if self.recipe.sequence else ("mixture",)


def sequence_story(ground: Ground) -> list[Step]:
    """Tell what is trained on and, where the recipe trains, the training and what was kept."""
    if "forgetting" in ground.recipe.replay.needs:
        return _as_it_is_measured(ground)
    schedule = _schedule(ground)
    composition = _composition(ground, schedule)
    told = [schedule, composition, _export(ground, schedule, composition)]
    if ground.recipe.train is None:
        return told
    references = _references(ground)
    trained, evaluations = list[Step](), [_evaluation(ground, "before")]
    for i in range(len(ground.phases)):
        trained.append(_trained(ground, i, composition, start=trained[-1] if trained else None, references=references))
        evaluations.append(_evaluation(ground, f"after {ground.phases[i]}", trained=trained[-1]))
    return [*told, *references, *made_for(trained), *trained, *evaluations, *_retention(ground, evaluations)]


def _as_it_is_measured(ground: Ground) -> list[Step]:
    evaluations, trained, references = [_evaluation(ground, "before")], list[Step](), _references(ground)
    for i, name in enumerate(ground.phases):
        schedule = _schedule(ground, name, stages=i + 1, evaluations=tuple(evaluations))
        composition = _composition(ground, schedule, name, phase=i)
        trained.append(_trained(ground, i, composition, start=trained[-1] if trained else None, references=references))
        evaluations.append(_evaluation(ground, f"after {name}", trained=trained[-1]))
    whole = _composition(ground, schedule)
    told = [schedule, whole, _export(ground, schedule, whole)]
    return [*told, *references, *made_for(trained), *trained, *evaluations, *_retention(ground, evaluations)]


def _schedule(ground: Ground, label: str = "", *, policy: Any = None, **progress: Any) -> Step:
    recipe, measured = ground.recipe, ground.measured
    policy = policy or recipe.replay
    return ground.call(
        "replay", label, policy=policy, groups=recipe.groups, earlier=recipe.earlier, budget=recipe.budget,
        mixture=ground.mixture, samples=ground.samples, similarity=measured.get("compare"),
        risk=measured.get({"coverage": "cover", "interference": "interfere"}.get(policy.name, "")), **progress,
    )  # fmt: skip


def _composition(ground: Ground, schedule: Step, label: str = "", *, phase: int | None = None) -> Step:
    recipe, measured = ground.recipe, ground.measured
    return ground.call(
        "compose", label, domains=recipe.order, select=recipe.select, replay_select=recipe.replay_selector, seed=recipe.seed,
        max_repeats=recipe.budget.max_repeats, phase=phase, schedule=schedule, samples=ground.samples,
        reserve=True if recipe.train is not None and recipe.train.law is not None else None,
        scores=tuple(measured[name] for name in SCORES if name in measured) or None,
        **{role: measured.get(name) for role, name in _SELECTING.items()},
    )  # fmt: skip


_SELECTING = {"embeddings": "embed", "sample_embeddings": "embed-rows", "answers": "answers", "clusters": "cluster"}


def _export(ground: Ground, schedule: Step, composition: Step) -> Step:
    return ground.call(
        "export", exporters=ground.recipe.exports, name=ground.recipe.name, recipe=data_recipe(ground.recipe),
        composition=composition, samples=ground.samples, schedule=schedule, parts=ground.parts,
        knowledge=ground.measured.get("probe"),
    )  # fmt: skip


def _references(ground: Ground) -> tuple[Step, ...]:
    """Tell how reference losses are found, where the law of training asks for them and the recipe does not give them."""
    recipe = ground.recipe
    spec = recipe.train
    if spec is None or spec.law is None or "reference" not in spec.law.needs or (spec.reference and spec.reference.given):
        return ()
    domains = tuple(dict.fromkeys(domain for trained in recipe.phase_domains for domain in trained))
    return (ground.call(
        "reference", spec=by_itself(spec), domains=domains, seed=recipe.seed, samples=ground.samples,
        **recipe.trained_on, **ground.model,
    ),)  # fmt: skip


def _trained(
    ground: Ground, phase: int, composition: Step, *, start: Step | None, references: tuple[Step, ...] = (),
    label: str | None = None,
) -> Step:  # fmt: skip
    recipe, spec = ground.recipe, ground.recipe.train
    assert spec is not None
    name = label or (ground.phases[phase] if len(ground.phases) > 1 else "")
    given = {
        "phase": phase, "seed": recipe.seed, "composition": composition, "samples": ground.samples, **recipe.trained_on,
        **ground.model,
    }  # fmt: skip
    made = made_before(ground.call, recipe, phase, name, start=start, given=given, alone=label is not None)
    return ground.call("train", name, spec=spec, start=start, references=references[0] if references else None, **made, **given)


def _evaluation(ground: Ground, label: str, *, trained: Step | None = None, domains: tuple[str, ...] | None = None) -> Step:
    recipe = ground.recipe
    return ground.call(
        "evaluate", label, spec=recipe.evaluate, engine=recipe.engine, domains=domains, trained=trained, samples=ground.samples,
        **recipe.trained_on, **ground.model,
    )  # fmt: skip


def _retention(ground: Ground, evaluations: list[Step]) -> list[Step]:
    experts = _experts(ground) if ground.recipe.evaluate.experts else []
    retained = ground.call(
        "retain", names=("before", *ground.phases), current=((), *ground.recipe.groups), domains=ground.recipe.order,
        evaluations=tuple(evaluations), experts=tuple(experts[1::2]) or None,
    )  # fmt: skip
    return [*made_for(experts), *experts, retained]


def _experts(ground: Ground) -> list[Step]:
    """Tell the training of every group alone, from the base, on the data of its own phase: what it reaches undisturbed."""
    schedule = _schedule(ground, "alone", policy=member("none", REPLAY, kind="replay policy"))
    composition = _composition(ground, schedule, "alone")
    steps: list[Step] = []
    for i, (name, group) in enumerate(zip(ground.phases, ground.recipe.groups, strict=True)):
        steps.append(_trained(ground, i, composition, start=None, label=f"{name} alone"))
        steps.append(_evaluation(ground, f"{name} alone", trained=steps[-1], domains=group))
    return steps


def data_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return what of the recipe a card shows: all that the composition rests on, and not how it is trained on."""
    aside = ("train", "evaluate", "engine", "loss_on")
    return {**{field: given for field, given in recipe.identity().items() if field not in aside}, **recipe.trained_on}
