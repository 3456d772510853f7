"""Runners: where the work of a run is done. None of them bears on what comes out.

Steps are carried out by the process that runs the recipe, as many at once as there are workers. What a stage can split into
shards goes to the workers of a cluster (:mod:`flows.spread`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import Field

from composer.errors import SpecError
from composer.spec import Spec


class Runner(Spec):
    """Where work is done. ``workers`` steps, and as many shards, are worked on at once.

    ``elsewhere`` says that shards go to other processes, which must see the store, the models and the Prefect server, and
    ``apart`` that heavy steps have processes of their own on this machine.
    """

    name: str
    summary: ClassVar[str]
    reference: ClassVar[str] = "-"
    elsewhere: ClassVar[bool] = True
    apart: ClassVar[bool] = False

    workers: int = Field(default=2, ge=1, le=10_000)
    address: str | None = None

    @abstractmethod
    def task_runner(self) -> Any:
        """Return Prefect's task runner, not started yet.

        Raises
        ------
        SpecError
            Where the extra that brings it is not installed.
        """


def missing(extra: str) -> SpecError:
    """Return the error for a runner whose package is not installed."""
    return SpecError("is not installed", where=f"runner.{extra}", hint=f"pip install 'sft-composer[{extra}]'")


from flows.runners.dask import Dask  # noqa: E402  members build on what stands above
from flows.runners.process import Process  # noqa: E402
from flows.runners.ray import Ray  # noqa: E402
from flows.runners.thread import Thread  # noqa: E402

RUNNERS: dict[str, type[Runner]] = {"thread": Thread, "process": Process, "ray": Ray, "dask": Dask}
