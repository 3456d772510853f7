"""The command ``sft-composer``: the story's stages, the whole run, and looking at what lies in the store.

Every command takes ``--json``: one JSON document on stdout, progress and logs on stderr. Exit codes: 0 done, 1 a check failed,
2 wrong input, 3 a fault of ours or of the machine.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from composer.errors import ComposerError
from composer.printable import printable
from composer.secrets import without_secrets
from flows import completion, generation, init, look, prove, reporting, scheduling
from flows.command import (
    STAGE_COMMANDS,
    DebugOption,
    DryOption,
    JsonOption,
    Overrides,
    PlainOption,
    RebuildOption,
    RecipePath,
    StoreOption,
    Words,
    begin,
    give,
    state,
)
from flows.examples import show_in_help
from flows.merge import merge
from flows.prediction import command as prediction
from flows.publish import HubOption, PublicOption, RevisionOption, publication
from flows.running import carry_out_and_show
from flows.trials import command as trials

KEYBOARD_INTERRUPT = 130  # typer's exit code for it

app = typer.Typer(
    name="sft-composer",
    cls=Words,
    help="Measure a base model, mix and replay SFT data, train on it, and see what was kept.",
    epilog="\b\nBegin with:\n  sft-composer init FOLDER\n  sft-composer COMMAND --help",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command(rich_help_panel="Start")
def run(
    recipe: RecipePath, overrides: Overrides = None, plain: PlainOption = False, dry_run: DryOption = False,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None, rebuild: RebuildOption = False,
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Run the whole story of a recipe; what is complete is not done again."""
    begin(as_json, debug)
    carry_out_and_show(recipe, overrides, until=until, store=store, plain=plain, dry_run=dry_run, rebuild=rebuild)


def _stage_command(name: str, summary: str) -> Callable[..., None]:
    """Return the command of one stage: the story up to it."""

    def command(
        recipe: RecipePath, overrides: Overrides = None, plain: PlainOption = False, dry_run: DryOption = False,
        rebuild: RebuildOption = False, store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
    ) -> None:  # fmt: skip
        begin(as_json, debug)
        carry_out_and_show(recipe, overrides, until=name, store=store, plain=plain, dry_run=dry_run, rebuild=rebuild)

    command.__doc__ = f"{summary}."
    return command


def _export(
    recipe: RecipePath, overrides: Overrides = None, plain: PlainOption = False, dry_run: DryOption = False,
    hub: HubOption = None, public: PublicOption = False, revision: RevisionOption = None,
    rebuild: RebuildOption = False, store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Write the mixed dataset in every wanted format, with its data card."""
    begin(as_json, debug)
    carry_out_and_show(
        recipe, overrides, until="export", store=store, plain=plain, dry_run=dry_run, rebuild=rebuild,
        publication=publication(hub, kind="dataset", public=public, revision=revision),
    )  # fmt: skip


def _train(
    recipe: RecipePath, overrides: Overrides = None, plain: PlainOption = False, dry_run: DryOption = False,
    sequence: Annotated[bool, typer.Option("--sequence", help="Measure after every stage what was kept, too.")] = False,
    hub: HubOption = None, public: PublicOption = False, revision: RevisionOption = None,
    rebuild: RebuildOption = False, store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Train phase after phase on the composition."""
    begin(as_json, debug)
    until = "retain" if sequence else "train"
    carry_out_and_show(
        recipe, overrides, until=until, store=store, plain=plain, dry_run=dry_run, rebuild=rebuild, sequence=sequence,
        publication=publication(hub, kind="model", public=public, revision=revision),
    )  # fmt: skip


OWN: dict[str, Callable[..., None]] = {"export": _export, "train": _train}
"""Commands of stages that take more than the others."""


for _name, _summary in STAGE_COMMANDS.items():
    app.command(_name, rich_help_panel="Stages")(OWN.get(_name) or _stage_command(_name, _summary))
app.command(rich_help_panel="Use")(merge)
for _family in (init, generation, look, prove, reporting, trials, prediction, scheduling, completion):
    _family.register(app)


@app.command("replay budget", rich_help_panel="Look")
def replay_budget(
    recipe: RecipePath,
    doses: Annotated[str, typer.Option(help="Replay per earlier task, in the unit of the budget, such as 0,5,20,80.")],
    overrides: Overrides = None,
    accept: Annotated[float, typer.Option(help="Share of exact match that may be forgotten.")] = 0.2,
    seeds: Annotated[int, typer.Option(help="Runs at every dose.")] = 3,
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Train at several amounts of replay and say which is the smallest that keeps forgetting within bounds."""
    begin(as_json, debug)
    from flows import dose

    document = dose.budget(recipe, overrides or (), accept=accept, doses=dose.read_doses(doses), n_seeds=seeds, store=store)
    give(document, lambda: dose.show(document))


@app.command(rich_help_panel="Start")
def demo(
    folder: Annotated[str, typer.Argument(help="Where the tiny world and its results go.")] = "demo",
    as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Run the whole story in a tiny world: base model, probe, mixture, replay, training, forgetting."""
    begin(as_json, debug)
    from flows.demo import story

    document = story.run(Path(folder))
    give(document, lambda: story.show(document))


show_in_help(app)


def main() -> None:
    """Run the command line; every error is one clear line, a traceback only with ``--debug``."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait busily ruin each other on a shared machine
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    state.json, state.debug, state.given = "--json" in arguments, "--debug" in arguments, False
    try:
        code = app(arguments, prog_name="sft-composer", standalone_mode=False)
    except ComposerError as error:
        return _fail(type(error).__name__, str(error), error.exit_code)
    except typer.TyperException as error:
        return _fail("UsageError", _with_help(error), 2)
    except Exception as error:
        told = without_secrets(" ".join(str(error).split()))[:300]
        return _fail("Fault", f"{type(error).__name__}: {told}; see --debug", 3)
    if code == KEYBOARD_INTERRUPT:
        return _fail("Interrupted", "stopped; what was complete stays complete, run again to go on", 3)
    return code if isinstance(code, int) else 0


def _with_help(error: typer.TyperException) -> str:
    """Return what is wrong with a command line, and which help to read."""
    context: Any = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".")
    return f"{message}; see {context.command_path} --help" if context else message


def _fail(kind: str, message: str, exit_code: int) -> int:
    if state.debug:
        sys.stderr.write(printable(without_secrets(traceback.format_exc())))
    if state.json and not state.given:
        sys.stdout.write(json.dumps({"error": {"kind": kind, "message": message, "exit_code": exit_code}}) + "\n")
    sys.stderr.write(f"error: {printable(message)}\n")
    return exit_code
