"""The commands that look at data, at a recipe and at what lies in the store, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from composer.errors import CheckError
from flows.command import DebugOption, JsonOption, Known, Mixed, Overrides, RecipePath, Reference, StoreOption, begin, give


def _store(path: str | None) -> Any:
    from composer.artifact import Store

    return Store(path or "store")


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
    from flows import cases, doctor_view
    from flows.doctor import examine
    from flows.recipe import read_recipe

    if Path(targets[0]).suffix in cases.RECIPE:
        recipe = read_recipe(targets[0], targets[1:])
        case = cases.case_of_recipe(recipe, recipe.store_at(store))
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


def estimate(
    recipe: RecipePath, overrides: Overrides = None,
    at: Annotated[str | None, typer.Option(help="A scenario: what all stages would cost on its cluster.")] = None,
    scenario: Annotated[list[str] | None, typer.Option("--set", help="key=value in the scenario, again and again.")] = None,
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Say what the recipe's probe will cost on its very engine, after a short calibration, or all of it elsewhere."""
    begin(as_json, debug)
    from flows import spending
    from flows.pipeline import make_plan
    from flows.recipe import read_recipe

    read = read_recipe(recipe, overrides or ())
    if at is not None:
        from flows.scale import view
        from flows.scale.foresee import foresee
        from flows.scale.scenario import read_scenario

        foreseen = foresee(read, read_scenario(at, scenario or ()))
        return give(foreseen, lambda: view.show(foreseen))
    where = read.store_at(store)
    document = spending.spending(make_plan(read, where), where)
    return give(document, lambda: spending.show(document))


def list_artifacts(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """List the artifacts of the store, the newest last."""
    begin(as_json, debug)
    from flows import views

    where = _store(store)
    rows = [views.artifact_row(artifact) for artifact in where.all(kind)]
    give(rows, lambda: views.show_list(rows) if rows else _nothing(where, kind))


def _nothing(where: Any, kind: str | None) -> None:
    from flows.screen import out

    out.print(f"no {kind or 'artifact'} in {where}; sft-composer run RECIPE makes them", markup=False, soft_wrap=True)


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
        raise CheckError("damaged artifacts", where=str(where), got=names, hint="remove them and run again")


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


def probe_diff(a: Known, b: Known, store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Compare what two probes found, b against a, share by share with intervals."""
    begin(as_json, debug)
    from flows import diff

    document = diff.diff(a, b, store=_store(store))
    give(document, lambda: diff.show(document))


def mix_diff(a: Mixed, b: Mixed, store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Compare two mixtures or two compositions: sources, what was asked for, weights and shares."""
    begin(as_json, debug)
    from flows import mix_diff as mixed

    document = mixed.diff(a, b, store=_store(store))
    give(document, lambda: mixed.show(document))


COMMANDS: dict[str, Callable[..., None]] = {
    "doctor": doctor, "estimate": estimate, "ls": list_artifacts, "show": show, "why": why, "verify": verify,
    "picture": picture, "probe diff": probe_diff, "mix diff": mix_diff,
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for name, command in COMMANDS.items():
        app.command(name, rich_help_panel="Look")(command)
