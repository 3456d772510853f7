"""The command ``prove``: what every trainer of an export draws, by its own rule on row numbers, against what was planned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from composer.errors import CheckError, InputError, SpecError, nearest
from flows.command import DebugOption, JsonOption, Overrides, StoreOption, begin, give

if TYPE_CHECKING:
    from composer.artifact import Artifact, Store

TargetOption = Annotated[str | None, typer.Option(help="One trainer, such as trl (default: every one of the export).")]
Subject = Annotated[str, typer.Argument(help="A recipe, or an export of the store.", show_default=False)]


def prove(
    subject: Subject, overrides: Overrides = None, target: TargetOption = None,
    tolerance: Annotated[float, typer.Option(help="Distance between two shares that holds.", min=0, max=1)] = 0.01,
    at: Annotated[str | None, typer.Option(help="A copy of the export, its configs perhaps changed.")] = None,
    store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Replay how a trainer draws its rows and compare planned and realised shares."""
    begin(as_json, debug)
    artifact, where = exported(subject, overrides or [], store)
    document = proofs(artifact, where, target=target, tolerance=tolerance, at=at)
    give(document, lambda: show(document))
    if failed := [proof for proof in document["proofs"] if not proof["holds"]]:
        got = ", ".join(f"{proof['target']} {proof['off_by']:.4f}" for proof in failed)
        hint = (
            "carry the rows themselves (carry: rows), or take longer epochs: what is drawn by chance comes near with its number"
        )
        raise CheckError("shares are off", where="prove", expected=f"at most {tolerance:g}", got=got, hint=hint)


def exported(subject: str, overrides: list[str], store: str | None) -> tuple[Artifact, Store]:
    """Return the export that a recipe or a reference names.

    Raises
    ------
    InputError
        Where it was not made yet, or the artifact is none.
    """
    from composer.artifact import Store
    from flows.cases import RECIPE
    from flows.pipeline import make_plan
    from flows.recipe import read_recipe

    if Path(subject).suffix not in RECIPE:
        where = Store(store or "store")
        artifact = where.get(subject)
        if artifact.kind != "export":
            raise InputError("not an export", where=subject, got=f"{artifact.kind}/{artifact.key}")
        return artifact, where
    recipe = read_recipe(subject, overrides)
    where = recipe.store_at(store)
    step = next(step for step in make_plan(recipe, where) if step.stage.name == "export")
    if (found := where.find("export", step.key)) is None:
        raise InputError("not exported yet", where=subject, hint=f"sft-composer export {subject}")
    return found, where


def proofs(artifact: Artifact, store: Store, *, target: str | None, tolerance: float, at: str | None) -> dict[str, Any]:
    """Return a proof for every trainer that the export is for, or for one.

    Raises
    ------
    SpecError
        Where the export is not for that trainer, or for none.
    """
    from composer.export import EXPORTERS, Trainer
    from composer.export.prove import prove as proof
    from composer.spec import member

    made = [member(fields, EXPORTERS, kind="exporter") for fields in artifact.manifest.spec["exporters"]]
    trainers = {each.name: each for each in made if isinstance(each, Trainer)}
    known = [word for word, each in EXPORTERS.items() if issubclass(each, Trainer)]
    if not trainers:
        raise SpecError("exported for no trainer", where="exports", hint=f"add one of {', '.join(known)}")
    if target is not None and target not in trainers:
        raise SpecError("not exported for this trainer", where="--target", got=target, hint=nearest(target, trainers))
    composition = store.get(f"composition/{artifact.manifest.inputs['composition']}").file("composition.parquet")
    folder = Path(at) if at else artifact.path
    chosen = [trainers[target]] if target else trainers.values()
    found = [proof(each, folder, composition, tolerance=tolerance) for each in chosen]
    return {"export": f"{artifact.kind}/{artifact.key}", "folder": str(folder), "proofs": found}


def show(document: dict[str, Any]) -> None:
    """Print every proof as a table."""
    from composer.export.prove import COUNTS
    from flows.screen import out, table

    columns = ("domain", *(f"{count.replace('_', ' ')}: planned" if i == 0 else "drawn" for count in COUNTS for i in (0, 1)))
    for proof in document["proofs"]:
        rows = [
            (domain, *(f"{shares[count][side]:.4f}" for count in COUNTS for side in ("planned", "realised")))
            for domain, shares in proof["domains"].items()
        ]
        says = "holds" if proof["holds"] else "does not hold"
        n = proof["rows"]
        out.print(table(f"{proof['target']}, by {proof['carry']}: shares", columns, rows))
        out.print(
            f"{n['realised']:,} rows drawn of {n['planned']:,} planned; off by at most {proof['off_by']:.4f}, "
            f"{says} at {proof['tolerance']:g}\n"
        )  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Look")(prove)
