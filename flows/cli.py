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

from composer.errors import CheckError, ComposerError
from flows.command import (
    STAGE_COMMANDS,
    DebugOption,
    DryOption,
    JsonOption,
    Known,
    Overrides,
    PlainOption,
    RebuildOption,
    RecipePath,
    Reference,
    StoreOption,
    Words,
    begin,
    give,
    state,
)
from flows.generation import register
from flows.merge import merge
from flows.running import carry_out_and_show

KEYBOARD_INTERRUPT = 130  # typer's exit code for it

app = typer.Typer(
    name="sft-composer",
    cls=Words,
    help="Measure a base model, mix and replay SFT data, train on it, and see what was kept.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
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


def _train(
    recipe: RecipePath, overrides: Overrides = None, plain: PlainOption = False, dry_run: DryOption = False,
    sequence: Annotated[bool, typer.Option("--sequence", help="Measure after every stage what was kept, too.")] = False,
    rebuild: RebuildOption = False, store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Train phase after phase on the composition."""
    begin(as_json, debug)
    until = "retain" if sequence else "train"
    carry_out_and_show(
        recipe, overrides, until=until, store=store, plain=plain, dry_run=dry_run, rebuild=rebuild, sequence=sequence
    )


for _name, _summary in STAGE_COMMANDS.items():
    app.command(_name, rich_help_panel="Stages")(_train if _name == "train" else _stage_command(_name, _summary))
app.command(rich_help_panel="Start")(merge)
register(app)


def _store(path: str | None) -> Any:
    from composer.artifact import Store

    return Store(path or "store")


@app.command(rich_help_panel="Look")
def doctor(
    targets: Annotated[list[str], typer.Argument(help="A recipe with key=value overrides, or files and folders of data.")],
    model: Annotated[str | None, typer.Option(help="Tokenizer and chat template to render files with.")] = None,
    max_length: Annotated[int, typer.Option(help="Tokens of a row of a file before it is cut.", min=8)] = 1_024,
    against: Annotated[list[str] | None, typer.Option(help="Evaluation set whose texts to look for in files.")] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of files without a byte order mark.")] = "auto",
    max_dropped: Annotated[float | None, typer.Option(help="Share of unusable rows above which to fail.", min=0, max=1)] = None,
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Read everything, change nothing, and say what would be kept, repaired and dropped, and why."""
    begin(as_json, debug)
    from dataclasses import replace

    from composer.artifact import Store
    from flows import cases, doctor_view
    from flows.doctor import examine
    from flows.recipe import read_recipe

    if Path(targets[0]).suffix in cases.RECIPE:
        recipe = read_recipe(targets[0], targets[1:])
        case = cases.case_of_recipe(recipe, Store(store or recipe.at(recipe.store)))
        case = replace(case, max_dropped=recipe.max_dropped if max_dropped is None else max_dropped)
    else:
        case = cases.case_of_paths(
            targets, model=model, max_length=max_length, against=against or (), encoding=encoding, max_dropped=max_dropped
        )
    report = examine(case)
    give(report, lambda: doctor_view.show(report))
    if names := report["too_many_dropped"]:
        expected = f"at most {case.max_dropped:.1%} of a source"
        raise CheckError(
            "too many rows cannot be used", where=", ".join(names), expected=expected, hint="see the examples above"
        )


@app.command(rich_help_panel="Look")
def estimate(
    recipe: RecipePath, overrides: Overrides = None, store: StoreOption = None, as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:  # fmt: skip
    """Say what the recipe's probe will cost on its very engine, after a short calibration, and do nothing of it."""
    begin(as_json, debug)
    from composer.artifact import Store
    from flows import spending
    from flows.pipeline import make_plan
    from flows.recipe import read_recipe

    read = read_recipe(recipe, overrides or ())
    where = Store(store or read.at(read.store))
    document = spending.spending(make_plan(read, where), where)
    give(document, lambda: spending.show(document))


@app.command("ls", rich_help_panel="Look")
def list_artifacts(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """List the artifacts of the store, the newest last."""
    begin(as_json, debug)
    from flows import views

    rows = [views.artifact_row(artifact) for artifact in _store(store).all(kind)]
    give(rows, lambda: views.show_list(rows))


@app.command(rich_help_panel="Look")
def show(
    reference: Reference = "run", store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Show an artifact: what it holds, how it was made, where it lies."""
    begin(as_json, debug)
    from flows import views

    where = _store(store)
    artifact = where.get(reference)
    document = {**artifact.manifest.model_dump(mode="json"), "path": str(artifact.path)}
    give(document, lambda: views.show_artifact(artifact, where))


@app.command(rich_help_panel="Look")
def why(reference: Reference, store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Say field by field why an artifact's key differs from the last one of its kind."""
    begin(as_json, debug)
    from flows import views

    where = _store(store)
    artifact = where.get(reference)
    before, changes = where.why(artifact)
    rows = [{"field": change.field, "before": change.before, "after": change.after} for change in changes]
    names = f"{artifact.kind}/{artifact.key}", before and f"{before.kind}/{before.key}"
    document = {"artifact": names[0], "before": names[1], "changes": rows}
    give(document, lambda: views.show_why(document))


@app.command(rich_help_panel="Look")
def verify(store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check every file of the store against its manifest, and say what drifted."""
    begin(as_json, debug)
    from flows import views

    where = _store(store)
    found = [{"artifact": f"{a.kind}/{a.key}", "damaged": where.verify(a)} for a in where.all()]
    document = {"checked": len(found), "damaged": [each for each in found if each["damaged"]], "drift": where.drift()}
    give(document, lambda: views.show_verify(document))
    if document["damaged"]:
        names = ", ".join(str(each["artifact"]) for each in found if each["damaged"])
        raise CheckError("damaged artifacts", where=str(where.root), got=names, hint="remove them and run again")


@app.command(rich_help_panel="Look")
def picture(
    reference: Reference,
    to: Annotated[str, typer.Option(help="The file to draw into: .png, .svg or .pdf.")] = "picture.png",
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Draw an artifact: distances between domains, a map of clusters, or the phases of a schedule."""
    begin(as_json, debug)
    from flows import pictures

    artifact = _store(store).get(reference)
    document = {"artifact": f"{artifact.kind}/{artifact.key}", "picture": str(pictures.draw(artifact, Path(to)))}
    give(document, lambda: pictures.show(document))


@app.command("probe diff", rich_help_panel="Look")
def probe_diff(a: Known, b: Known, store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Compare what two probes found, b against a, share by share with intervals."""
    begin(as_json, debug)
    from flows import diff

    document = diff.diff(a, b, store=_store(store))
    give(document, lambda: diff.show(document))


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


def main() -> None:
    """Run the command line; every error is one clear line, a traceback only with ``--debug``."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait busily ruin each other on a shared machine
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    state.json, state.debug, state.given = "--json" in arguments, "--debug" in arguments, False
    try:
        code = app(arguments, standalone_mode=False)
    except ComposerError as error:
        return _fail(type(error).__name__, str(error), error.exit_code)
    except typer.TyperException as error:
        return _fail("UsageError", error.format_message(), 2)
    except Exception as error:
        return _fail("Fault", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}; see --debug", 3)
    if code == KEYBOARD_INTERRUPT:
        return _fail("Interrupted", "stopped; what was complete stays complete, run again to go on", 3)
    return code if isinstance(code, int) else 0


def _fail(kind: str, message: str, exit_code: int) -> int:
    if state.debug:
        traceback.print_exc()
    if state.json and not state.given:
        sys.stdout.write(json.dumps({"error": {"kind": kind, "message": message, "exit_code": exit_code}}) + "\n")
    sys.stderr.write(f"error: {message}\n")
    return exit_code
