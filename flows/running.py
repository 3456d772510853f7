"""What the commands that run a recipe share: reading it, planning, carrying the plan out and telling of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from composer.errors import CheckError, SpecError
from flows.command import give, state

if TYPE_CHECKING:
    from composer.artifact import Artifact, Store
    from flows.plan import Plan
    from flows.publish import Publication


def carry_out_and_show(
    recipe: str, overrides: list[str] | None, *, until: str | None, store: str | None, plain: bool, dry_run: bool,
    rebuild: bool, sequence: bool = False, publication: Publication | None = None,
) -> None:  # fmt: skip
    """Carry out a recipe up to a stage, or only print its plan, and give the command's result.

    With a ``publication`` what was made is pushed to the Hub then, or what would be pushed is printed.

    Raises
    ------
    SpecError
        For a ``sequence`` that the recipe does not have.
    CheckError
        Where something that was built again came out otherwise, or licences stand against pushing it.
    """
    from flows.pipeline import make_plan
    from flows.recipe import read_recipe

    read = read_recipe(recipe, overrides or ())
    if sequence and not read.sequence:
        hint = "give the groups in the order in which they are learned, sequence=[law, code], or leave --sequence out"
        raise SpecError("nothing follows on one another in this recipe", where="sequence", hint=hint)
    if publication and not dry_run:
        publication.check()  # before hours of work
    where = read.store_at(store)
    whole = make_plan(read, where)
    plan = whole.until(until) if until else whole
    if dry_run:
        return _preview(plan, whole, where, publication)
    document, artifacts = _carried_out(plan, where, plain=plain, rebuild=rebuild)
    if publication and not document["drift"]:
        document["hub"] = publication.send(whole, where)
    _show(document, artifacts, publication)
    if document["drift"]:
        got = f"{len(document['drift'])} artifacts"
        raise CheckError("content drifted under the same key", where=str(where.root / "drift"), got=got)
    return None


def _preview(plan: Plan, whole: Plan, where: Store, publication: Publication | None) -> None:
    from flows import views

    document = views.plan_document(plan, where)
    if publication is None:
        return give(document, lambda: views.show_plan(document))
    document["hub"] = publication.preview(whole, where)

    def show() -> None:
        views.show_plan(document)
        publication.show(document["hub"])

    give(document, show)
    return publication.refuse(document["hub"])


def _carried_out(plan: Plan, where: Store, *, plain: bool, rebuild: bool) -> tuple[dict[str, Any], dict[str, Artifact]]:
    from flows import views
    from flows.shell import carry_out

    for step in plan:
        engine = step.values.get("engine")
        if engine is not None and where.find(step.stage.kind, step.key) is None:
            engine.check()  # before the steps that come first are done
    steps: list[dict[str, Any]] = []
    artifacts = carry_out(plan, where, plain=plain, rebuild=rebuild, told=views.teller(steps), traces=state.debug)
    keys = {step["key"] for step in steps}
    drift = [each for each in where.drift() if rebuild and each["key"] in keys]
    return {"recipe": plan.recipe.name, "store": str(where), "steps": steps, "drift": drift}, artifacts


def _show(document: dict[str, Any], artifacts: dict[str, Artifact], publication: Publication | None) -> None:
    from flows import views

    def show() -> None:
        views.show_run(document, artifacts)
        if publication and "hub" in document:
            publication.show(document["hub"])

    give(document, show)
