"""A stage as a Prefect task: tried again after faults of the machine, bounded in time, with a slot of the GPU if it uses one.

Imports Prefect, as only ``flows.shell`` and the files named ``prefect_*`` do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from composer.artifact import Artifact
from flows.conduct import Conduct, passes, uses_gpu
from flows.plan import Step

LEASE_SECONDS = 60.0  # the least that the server allows: a run that was killed holds its slot no longer than this


def as_task(step: Step, perform: Callable[..., Artifact], conduct: Conduct, *, was_there: bool) -> Callable[..., Artifact]:
    """Return the step as a task, named as the step; one whose artifact is there already waits for nothing."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.tasks import exponential_backoff

    own = conduct.of(step.stage.name)
    takes_slot = own.gpu is not None and not was_there and uses_gpu(step.stage.name, step.values)
    return task(
        name=step.stage.name,
        task_run_name=step.label.replace("{", "{{").replace("}", "}}"),  # Prefect fills in what stands in braces
        tags=[*own.tags, *(["gpu"] if takes_slot else [])],
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=own.retries,
        retry_delay_seconds=exponential_backoff(own.retry_delay_seconds) if own.retries else None,
        retry_jitter_factor=own.retry_jitter,
        retry_condition_fn=_passes,
        timeout_seconds=own.timeout_seconds,
    )(_with_slot(perform, own.gpu.limit) if takes_slot and own.gpu else perform)


def _passes(task: Any, run: Any, state: Any) -> bool:  # noqa: ARG001
    """Say for Prefect whether the error of a failed state may pass."""
    return isinstance(state.data, Exception) and passes(state.data)


def _with_slot(perform: Callable[..., Artifact], limit: str) -> Callable[..., Artifact]:
    """Return ``perform`` so that it waits for a slot of a global concurrency limit; without such a limit nothing waits."""

    def performed(**inputs: Any) -> Artifact:
        from prefect.concurrency.sync import concurrency

        with concurrency(limit, occupy=1, lease_duration=LEASE_SECONDS):
            return perform(**inputs)

    return performed
