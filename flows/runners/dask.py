"""A Dask cluster: one that is running, or one that is started on this machine for the run."""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Literal

from flows.runners import Runner, missing


class Dask(Runner):
    """Send shards to Dask, by the ``address`` of its scheduler (``tcp://host:8786``); without one, workers are started here.

    A worker with several threads takes as many shards at once; ``--nthreads 1`` gives every one a process.
    """

    summary: ClassVar[str] = "a Dask cluster, through prefect-dask"
    reference: ClassVar[str] = "Rocklin, SciPy 2015"

    name: Literal["dask"] = "dask"

    def task_runner(self) -> Any:
        """Return prefect-dask's runner; a cluster that it starts listens on loopback alone, without a dashboard."""
        try:
            from prefect_dask import DaskTaskRunner
        except ImportError:
            raise missing("dask") from None
        logging.getLogger("distributed").setLevel(logging.WARNING)  # it tells of every connection
        if self.address is not None:
            return DaskTaskRunner(address=self.address)
        local = {"n_workers": self.workers, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
        return DaskTaskRunner(cluster_kwargs=local)
