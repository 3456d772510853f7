"""How a plan is carried out: in this process, or as a Prefect flow.

Prefect caches nothing here and passes only handles (kind, key, path): the store is the cache.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from composer.artifact import Artifact, Store
from composer.errors import unsaid
from composer.sweep import sweep
from flows.apart import Apart, processes
from flows.pipeline import make_plan
from flows.plan import Plan, Step
from flows.recipe import Recipe
from flows.walk import Told, Walk, heavy

if TYPE_CHECKING:
    from prefect import Flow

P = ParamSpec("P")
R = TypeVar("R")
NO_PICKLE: Any = {"persist_result": False, "result_serializer": "json"}
"""How a flow keeps nothing: Prefect would still keep the error of one that failed, and as a pickle."""


def _nobody(step: Step, artifact: Artifact, was_there: bool) -> None:
    """Take notice of nothing."""


def carry_out(
    plan: Plan, store: Store, *, plain: bool = False, rebuild: bool = False, told: Told = _nobody, traces: bool = False
) -> dict[str, Artifact]:
    """Carry out a plan and return its artifacts by label; ``told`` hears of every step that is done.

    With ``plain`` everything happens in this process without Prefect, also where the recipe names a cluster; the manifests are
    the same (``made`` aside). Without ``traces`` Prefect's log on the terminal names errors in a line; its server keeps their
    tracebacks.
    """
    if plain:
        own = plan.recipe.runner
        with apart_for(plan, store) as apart:
            return Walk(
                plan, store, told, lambda _, perform, __: perform, rebuild=rebuild, workers=1 if own.elsewhere else own.workers,
                apart=apart,
            ).carry_out()  # fmt: skip
    prepare_prefect()
    from prefect import flow

    def story() -> dict[str, Artifact]:
        if not traces:
            _shorten_the_log()
        return in_flow(plan, store, rebuild=rebuild, told=told)

    return flow(name=plan.recipe.name, validate_parameters=False, **NO_PICKLE)(story)()


def in_flow(plan: Plan, store: Store, *, rebuild: bool = False, told: Told = _nobody) -> dict[str, Artifact]:
    """Carry out a plan inside a running Prefect flow, one task run per step, and leave Prefect's artifacts of it.

    Where it fails, they say how far it came.
    """
    from flows.prefect_artifacts import watched
    from flows.prefect_spread import spreading
    from flows.prefect_tasks import as_task

    conduct, runner = plan.recipe.flow, plan.recipe.runner

    def wrap(step: Step, perform: Callable[..., Artifact], was_there: bool) -> Callable[..., Artifact]:
        return as_task(step, perform, conduct, was_there=was_there)

    with watched(plan, store, told) as heard, spreading(runner) as spreader, apart_for(plan, store) as apart:
        return Walk(
            plan, store, heard, wrap, rebuild=rebuild, workers=runner.workers, spreader=spreader, apart=apart
        ).carry_out()


def apart_for(plan: Plan, store: Store) -> AbstractContextManager[Apart | None]:
    """Return what performs heavy steps in processes of their own, where the recipe's runner has such and there is work."""
    to_do = any(heavy(step) and not store.has(step.stage.kind, step.key) for step in plan)
    return processes(plan.recipe.runner.workers) if plan.recipe.runner.apart and to_do else nullcontext()


@unsaid()
def carry_out_recipe(recipe: Recipe, *, store: str | None, until: str | None) -> dict[str, str]:
    """Carry out a recipe, or the part of it that one command needs, inside a running flow; return ``{label: kind/key}``.

    What runs that were stopped left half built is removed first, where this one does not go on with it.
    """
    where = recipe.store_at(store)
    plan = make_plan(recipe, where)
    plan = plan.until(until) if until else plan
    sweep(where, keep={step.key for step in plan})
    artifacts = in_flow(plan, where)
    return {label: f"{artifact.kind}/{artifact.key}" for label, artifact in artifacts.items()}


def as_flow(name: str) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Return the decorator that makes a function a flow to serve and schedule, with Prefect's settings made ready first."""
    prepare_prefect()
    from prefect import flow

    return flow(name=name, **NO_PICKLE)


def prepare_prefect() -> None:
    """Give a fresh machine room to start Prefect's local server, and send nothing anywhere."""
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")


class _Short(logging.Formatter):
    """Formats a record as another formatter does, without its traceback."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text."""
        short = copy.copy(record)
        short.exc_info = short.exc_text = None
        return self.inner.format(short)


def _shorten_the_log() -> None:
    """Keep tracebacks off the terminal; Prefect makes its handlers when a flow begins, so this is called inside one."""
    for name in (None, "prefect", "prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.formatter:
                handler.setFormatter(_Short(handler.formatter))
