"""A Ray cluster: one that is running, or one that is started on this machine for the run."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Literal

from pydantic import Field

from flows.runners import Runner, missing


class Ray(Runner):
    """Send shards to Ray, by its ``address`` (``auto``, or ``ray://host:10001``); without one, workers are started here.

    A task takes a CPU, and the share ``gpus`` of a GPU: Ray shows a task no GPU that it did not ask for. The name of a cluster
    tells nothing of where its workers see the store: that must be the same path everywhere.
    """

    summary: ClassVar[str] = "a Ray cluster, through prefect-ray"
    reference: ClassVar[str] = "Moritz et al., OSDI 2018"

    name: Literal["ray"] = "ray"
    gpus: float = Field(default=0.0, ge=0)

    def task_runner(self) -> Any:
        """Return prefect-ray's runner; a cluster that it starts listens on loopback alone, without a dashboard."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do, and warns of until one says so
        if self.address is None:
            # By this Ray takes 127.0.0.1 for the machine's address, which it else looks up even where it was told that one.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        try:
            from prefect_ray import RayTaskRunner
        except ImportError:
            raise missing("ray") from None
        if self.address is not None:
            return RayTaskRunner(address=self.address, init_kwargs={"log_to_driver": False})
        local = {"num_cpus": self.workers, "include_dashboard": False, "log_to_driver": False, "_node_ip_address": "127.0.0.1"}
        return RayTaskRunner(init_kwargs=local)
