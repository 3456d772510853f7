"""The commands ``serve`` and ``deploy``: a recipe that runs by a schedule, on a Prefect server that stays."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command import DebugOption, JsonOption, Overrides, RecipePath, StoreOption, begin, give

CronOption = Annotated[str | None, typer.Option(help='When to run: five fields, such as "0 3 * * *".')]
IntervalOption = Annotated[float | None, typer.Option(help="Or: run every so many seconds.", min=1)]
ZoneOption = Annotated[str | None, typer.Option(help="The time zone of --cron, such as Europe/Berlin (default: UTC).")]
FlowOption = Annotated[str, typer.Option("--flow", help="What to run: train (the whole story), compose or probe.")]
NameOption = Annotated[str | None, typer.Option(help="The deployment's name (default: the recipe's).")]
PausedOption = Annotated[bool, typer.Option("--paused", help="Let the schedule rest until it is resumed on the page.")]
LimitOption = Annotated[int, typer.Option(help="Runs at the same time; more wait.", min=1)]
PoolOption = Annotated[str, typer.Option(help="The work pool; it is made where it is missing.")]


def asked(
    recipe: RecipePath, overrides: Overrides = None, cron: CronOption = None, interval: IntervalOption = None,
    timezone: ZoneOption = None, story: FlowOption = "train", name: NameOption = None, paused: PausedOption = False,
    limit: LimitOption = 1, store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> Any:  # fmt: skip
    """Return the deployment that the options ask for; the recipe is read, so that what is wrong with it is said now."""
    begin(as_json, debug)
    from flows.deployment import Wanted
    from flows.recipe import read_recipe
    from flows.shell import prepare_prefect

    prepare_prefect()
    return Wanted(
        read_recipe(recipe, overrides or ()), Path(recipe), tuple(overrides or ()), store=store, story=story, name=name,
        cron=cron, interval=interval, timezone=timezone, paused=paused, limit=limit,
    )  # fmt: skip


def by_schedule(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the options of :func:`asked` in the place of what is wanted, and then its own."""
    shared = signature(asked, eval_str=True).parameters
    _, *own = signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def carry_out(**given: Any) -> None:
        wanted = asked(**{name: given.pop(name) for name in shared})
        command(wanted, **given)

    carry_out.__signature__ = Signature([*shared.values(), *own])  # type: ignore[attr-defined]  # typer reads it
    return carry_out


def serve(wanted: Any) -> None:
    """Run a recipe by a schedule from this process, until it is stopped; a worker is not needed."""
    from flows import prefect_server

    prefect_server.check_schedule(wanted)
    document = {**_document(wanted), "server": prefect_server.server()}
    prefect_server.make_limit(wanted.recipe.flow.gpu)
    give(document, lambda: _show(document, "is served until this process is stopped"))
    prefect_server.serve(wanted)


def deploy(
    wanted: Any, pool: PoolOption = "sft-composer",
    to: Annotated[str | None, typer.Option(help="The file to write (default: prefect.yaml beside the recipe).")] = None,
    write_only: Annotated[bool, typer.Option("--write-only", help="Write the file and ask no server.")] = False,
) -> None:  # fmt: skip
    """Write prefect.yaml for a recipe and apply it, so that the workers of a pool run it by a schedule."""
    from flows import deployment, prefect_server

    prefect_server.check_schedule(wanted)
    url = None if write_only else prefect_server.server()
    text = deployment.prefect_yaml(wanted, pool=pool, directory=Path.cwd())
    file = deployment.write(text, Path(to) if to else wanted.path.with_name("prefect.yaml"))
    if not write_only:
        prefect_server.make_limit(wanted.recipe.flow.gpu)
        prefect_server.make_pool(pool)
        prefect_server.apply(file)
    document = {**_document(wanted), "file": str(file), "pool": pool, "server": url}
    give(document, lambda: _show(document, f"runs on: prefect worker start --pool {pool}" if url else "is written"))


def _document(wanted: Any) -> dict[str, Any]:
    return {
        "deployment": f"{wanted.story}/{wanted.called}", "schedules": wanted.schedules, "tags": wanted.tags,
        "parameters": wanted.parameters, "gpu_limit": wanted.recipe.flow.gpu and wanted.recipe.flow.gpu.limit,
    }  # fmt: skip


def _show(document: dict[str, Any], how: str) -> None:
    from flows.screen import out

    when = document["schedules"]
    told = " ".join(f"{key} {value}" for key, value in when[0].items()) if when else "no schedule"
    out.print(f"{document['deployment']} ({told}) {how}", markup=False, soft_wrap=True)
    if "file" in document:
        out.print(f"written: {document['file']}", markup=False, soft_wrap=True)
    if document["server"]:
        out.print(f"its page: {document['server'].removesuffix('/api')}/deployments", markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (serve, deploy):
        app.command(rich_help_panel="Schedule")(by_schedule(command))
