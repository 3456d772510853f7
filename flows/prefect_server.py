"""What is asked of a Prefect server that stays: whether it answers, a limit, a work pool, a deployment, and serving one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from composer.errors import FaultError, InputError
from composer.secrets import without_secrets
from flows.conduct import Gpu
from flows.deployment import Wanted

LOOPBACK = "prefect server start --host 127.0.0.1, then PREFECT_API_URL=http://127.0.0.1:4200/api"


def server() -> str:
    """Return the address of the Prefect server that answers, as it may be shown.

    Raises
    ------
    InputError
        Where none is named: a schedule needs a server that stays.
    FaultError
        Where it does not answer.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        raise InputError("no Prefect server is named", where="PREFECT_API_URL", hint=LOOPBACK)
    if (error := get_client(sync_client=True).api_healthcheck()) is not None:
        raise FaultError(f"the Prefect server does not answer: {error}", where=str(url), hint=LOOPBACK)
    return without_secrets(str(url))


def make_limit(gpu: Gpu | None) -> None:
    """Make the global concurrency limit of a recipe's GPU where the server has none of its name; one that is there stays."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    if gpu is None:
        return
    client = get_client(sync_client=True)
    if gpu.limit not in {each.name for each in client.read_global_concurrency_limits(limit=200)}:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=gpu.limit, limit=gpu.slots))


def make_pool(name: str) -> None:
    """Make a work pool for processes on this machine where the server has none of that name.

    Raises
    ------
    InputError
        Where there is one of another type.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    client = get_client(sync_client=True)
    try:
        found = client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
        return
    if found.type != "process":
        raise InputError("a work pool of another type", where="--pool", got=f"{name}: {found.type}", expected="process")


def apply(file: Path) -> None:
    """Apply a ``prefect.yaml`` by Prefect's own command.

    Raises
    ------
    FaultError
        Where it is refused.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    if done.returncode:
        told = " ".join((done.stderr + done.stdout).split())[-600:]
        raise FaultError(f"Prefect did not take the deployment: {told}", where=str(file))


def check_schedule(wanted: Wanted) -> None:
    """Refuse a schedule that Prefect would not take.

    Raises
    ------
    InputError
        For a cron line, an interval or a time zone that is none.
    """
    from datetime import timedelta

    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
    from pydantic import ValidationError

    try:
        if wanted.cron:
            CronSchedule(cron=wanted.cron, timezone=wanted.timezone)
        elif wanted.interval:
            IntervalSchedule(interval=timedelta(seconds=wanted.interval), timezone=wanted.timezone)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where, told = f"--{first['loc'][0]}", first["msg"].removeprefix("Value error, ")
        expected = 'five fields, such as "0 3 * * *"' if where == "--cron" else ""
        raise InputError(f"not a schedule: {told}", where=where, got=str(first["input"]), expected=expected) from None


def serve(wanted: Wanted) -> None:
    """Serve a recipe from this process until it is stopped; every run is a process of its own, ``limit`` of them at a time."""
    import importlib

    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import construct_schedule
    from prefect.types.entrypoint import EntrypointType

    flow = getattr(importlib.import_module(f"flows.{wanted.story}"), wanted.story)
    when = (
        construct_schedule(interval=wanted.interval, cron=wanted.cron, timezone=wanted.timezone) if wanted.schedules else None
    )
    flow.serve(
        name=wanted.called,
        schedules=[DeploymentScheduleCreate(schedule=when, active=not wanted.paused)] if when else None,
        parameters=wanted.parameters,
        description=wanted.description,
        tags=wanted.tags,
        limit=wanted.limit,
        print_starting_message=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
