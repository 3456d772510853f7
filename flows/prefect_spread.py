"""Shards as Prefect tasks on the task runner of a recipe. Imports Prefect, as ``flows.shell`` does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

from composer.errors import SpecError
from flows.runners import Runner
from flows.spread import Promise, Spreader, Ticket, redeem

PER_WORKER = 4
"""Tickets that a stage is cut into for every worker, so that none waits long for the last one."""


@contextmanager
def spreading(runner: Runner) -> Iterator[Spreader | None]:
    """Yield what redeems tickets on a runner, inside a flow; nothing where all is done in this process.

    Raises
    ------
    SpecError
        Where the runner is not installed, or workers on other machines could not find the Prefect server.
    """
    if not runner.elsewhere:
        yield None
        return
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    with ExitStack() as stack:
        starting = runner.task_runner()
        stack.enter_context(_server_for(runner))
        started = stack.enter_context(starting)
        getattr(started, "client", None)  # Dask's connects when it is first asked: two steps at once would make two clusters

        def submit(ticket: Ticket) -> Promise:
            name = f"{ticket.label}: {ticket.names[0]} and {len(ticket.names) - 1} more".replace("{", "{{").replace("}", "}}")
            shards = task(name="shards", task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(redeem)
            with _options(runner):
                promise: Promise = copy_context().run(_submit, started, shards, ticket)
            return promise

        yield Spreader(submit, tickets=PER_WORKER * runner.workers)


def _submit(runner: Any, shards: Any, ticket: Ticket) -> Any:
    """Submit a task of the running flow, without what cannot travel: the functions of the flow and of the step."""
    from prefect import flow
    from prefect.context import FlowRunContext, TaskRunContext

    step: ContextVar[Any] = TaskRunContext.__var__
    step.set(None)
    running = FlowRunContext.get()
    assert running is not None
    assert running.flow is not None
    with running.model_copy(update={"flow": flow(name=running.flow.name)(_elsewhere), "parameters": {}}):
        return runner.submit(shards, parameters={"ticket": ticket})


def _elsewhere() -> None:
    """Stand for the function of a flow where only its run is known."""


@contextmanager
def _options(runner: Runner) -> Iterator[None]:
    """Ask Ray for the share of a GPU that a task takes."""
    if gpus := getattr(runner, "gpus", 0):
        from prefect_ray.context import remote_options

        with remote_options(num_gpus=gpus):
            yield
    else:
        yield


@contextmanager
def _server_for(runner: Runner) -> Iterator[None]:
    """Let workers find the server of this run: the one that is named, or for workers on this machine the one it started.

    A worker that is told of none would start one of its own.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if PREFECT_API_URL.value():
        yield
        return
    if runner.address is not None:
        hint = "prefect server start --host ADDRESS, then PREFECT_API_URL=http://ADDRESS:4200/api"
        raise SpecError("workers elsewhere need a Prefect server that they can reach", where="PREFECT_API_URL", hint=hint)
    server: Any = SubprocessASGIServer()  # the one that this process has started, if any
    server.start(timeout=int(os.environ.get("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")))
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        yield
