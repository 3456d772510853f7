"""This process alone."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from flows.runners import Runner


class Thread(Runner):
    """Do everything in this process; with several ``workers`` several sources are read at once, and light steps beside others.

    A stage is not split: it uses all cores by itself.
    """

    summary: ClassVar[str] = "this process; several light steps at once where there are several workers"
    elsewhere: ClassVar[bool] = False

    name: Literal["thread"] = "thread"
    workers: int = Field(default=1, ge=1, le=256)
    address: None = None

    def task_runner(self) -> Any:
        """Return Prefect's runner of threads."""
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner(max_workers=self.workers)
