"""A recipe's plan walked in a scenario: what every stage costs, what it all comes to, and what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flows.plan import Plan, Step
from flows.recipe import Recipe
from flows.scale import of_data, of_models
from flows.scale.draft import draft
from flows.scale.rates import read_rates
from flows.scale.scenario import GB, Cluster, Scenario
from flows.scale.world import Cost, World
from flows.walk import heavy

COSTS = {**of_data.COSTS, **of_models.COSTS}
"""What a stage costs, by its name: one function per stage."""
LONG = 24 * 3600.0
"""Seconds after which a stage of one process is told of as a trouble."""


def foresee(recipe: Recipe, scenario: Scenario) -> dict[str, Any]:
    """Return what a recipe costs in a scenario; no data, no model and no cluster is looked at.

    ``stages`` has one entry per stage, in the story's order: ``steps``, ``where``, ``amount`` and ``unit``, ``seconds`` (None
    where they are not known), ``nodes`` that it holds, ``node_hours``, ``cost``, ``disk_bytes`` that it leaves, ``aside_bytes``
    that it needs there meanwhile, ``memory_bytes`` of a node, ``gpu_bytes`` of a GPU, ``formula`` and ``troubles``. ``totals``
    are sums of these; ``held_cost`` is that of the whole cluster for the whole time. ``rates`` are those that were used, with
    their origin, and ``unknown`` names the stages that no sum contains.

    Raises
    ------
    SpecError
        Where the scenario lacks what the recipe asks for: a sentence model, the rows of a source, a rate that there is.
    """
    plan, world = draft(recipe), World(recipe, scenario, read_rates(scenario.rates))
    names = tuple(dict.fromkeys(step.stage.name for step in plan))
    stages = [_stage(name, plan, world) for name in names]
    known = [each for each in stages if each["seconds"] is not None]
    cluster = scenario.cluster
    seconds, disk = sum(each["seconds"] for each in known), sum(each["disk_bytes"] for each in known)
    held = seconds / 3600 * cluster.nodes
    return {
        "recipe": recipe.name, "scenario": scenario.name, "currency": cluster.currency, "stages": stages,
        "totals": {
            "seconds": seconds, "node_hours": sum(each["node_hours"] for each in known), "disk_bytes": disk,
            "cost": sum(each["cost"] for each in known), "held_node_hours": held,
            "held_cost": held * cluster.price_per_node_hour,
        },
        "does_not_fit": _what_does_not_fit(stages, cluster, disk),
        "unknown": [each["stage"] for each in stages if each["seconds"] is None],
        "rates": {name: world.rates.used[name].model_dump() for name in sorted(world.rates.used)},
    }  # fmt: skip


def _stage(name: str, plan: Plan, world: World) -> dict[str, Any]:
    steps = [step for step in plan if step.stage.name == name]
    costs = [COSTS[name](step, world) for step in steps]
    seconds, first = _seconds(steps, costs, world), costs[0]
    nodes, cluster = max(each.nodes for each in costs), world.scenario.cluster
    hours = None if seconds is None else seconds / 3600 * nodes
    troubles = [trouble for each in costs for trouble in (*each.troubles, *_too_much(each, cluster))]
    return {
        "stage": name, "steps": len(steps), "where": first.where,
        "amount": sum(each.amount for each in costs), "unit": first.unit,
        "seconds": seconds, "nodes": nodes, "node_hours": hours,
        "cost": None if hours is None else hours * cluster.price_per_node_hour,
        "disk_bytes": sum(each.disk for each in costs), "aside_bytes": max(each.aside for each in costs),
        "memory_bytes": max(each.memory for each in costs),
        "gpu_bytes": max(each.gpu for each in costs), "formula": first.formula, "troubles": list(dict.fromkeys(troubles)),
    }  # fmt: skip


def _seconds(steps: Sequence[Step], costs: Sequence[Cost], world: World) -> float | None:
    """Return the seconds of the steps of one stage: one after the other, light ones as many at once as there are threads."""
    told = [each.seconds for each in costs]
    if any(each is None for each in told):
        return None
    each = [seconds for seconds in told if seconds is not None]
    runner = world.recipe.runner
    at_once = runner.workers if runner.name == "thread" and not heavy(steps[0]) else 1
    return max(max(each), sum(each) / min(at_once, world.scenario.cluster.cores))


def _too_much(cost: Cost, cluster: Cluster) -> list[str]:
    out = []
    if cost.memory > cluster.memory_gb * GB:
        out.append(f"{cost.memory / GB:,.0f} GB of main memory, and a node has {cluster.memory_gb:,.0f}")
    if cluster.gpu is not None and cost.gpu > cluster.gpu.memory_gb * GB:
        out.append(f"{cost.gpu / GB:,.0f} GB of a GPU's memory, and it has {cluster.gpu.memory_gb:,.0f}")
    if cost.alone and cost.seconds is not None and cost.seconds > LONG:
        out.append(f"{cost.seconds / 3600:,.0f} hours in one process")
    return out


def _what_does_not_fit(stages: Sequence[dict[str, Any]], cluster: Cluster, disk: float) -> list[str]:
    out = [f"{each['stage']}: {trouble}" for each in stages for trouble in each["troubles"]]
    needed = (disk + max(each["aside_bytes"] for each in stages)) / GB
    return out + ([f"disk: {needed:,.0f} GB, and there are {cluster.disk_gb:,.0f}"] if needed > cluster.disk_gb else [])
