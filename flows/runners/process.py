"""Processes of this machine, one for every heavy step."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from flows.runners import Runner


class Process(Runner):
    """Do heavy steps in processes of their own, so that several are done at once: arms of a trial, experts, stages of sources.

    Every one of them needs its own memory, of a GPU too. They share the cores: give each its part by ``OMP_NUM_THREADS``.
    """

    summary: ClassVar[str] = "processes of this machine; as many heavy steps at once as there are workers"
    elsewhere: ClassVar[bool] = False
    apart: ClassVar[bool] = True

    name: Literal["process"] = "process"
    workers: int = Field(default=2, ge=1, le=256)
    address: None = None

    def task_runner(self) -> Any:
        """Return Prefect's runner of threads, each of which waits for its process."""
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner(max_workers=self.workers)
