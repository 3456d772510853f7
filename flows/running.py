"""What the commands that run a recipe share: reading it, planning, carrying the plan out and telling of it."""

from __future__ import annotations

from typing import Any

from composer.errors import CheckError, SpecError
from flows.command import give, state


def carry_out_and_show(
    recipe: str, overrides: list[str] | None, *, until: str | None, store: str | None, plain: bool, dry_run: bool,
    rebuild: bool, sequence: bool = False,
) -> None:  # fmt: skip
    """Carry out a recipe up to a stage, or only print its plan, and give the command's result.

    Raises
    ------
    SpecError
        For a ``sequence`` that the recipe does not have.
    CheckError
        Where something that was built again came out otherwise.
    """
    from flows import views
    from flows.pipeline import make_plan
    from flows.recipe import read_recipe

    read = read_recipe(recipe, overrides or ())
    if sequence and not read.sequence:
        hint = "give the groups in the order in which they are learned, sequence=[law, code], or leave --sequence out"
        raise SpecError("nothing follows on one another in this recipe", where="sequence", hint=hint)
    where = read.store_at(store)
    plan = make_plan(read, where)
    plan = plan.until(until) if until else plan
    if dry_run:
        document = views.plan_document(plan, where)
        return give(document, lambda: views.show_plan(document))
    from flows.shell import carry_out

    steps: list[dict[str, Any]] = []
    artifacts = carry_out(plan, where, plain=plain, rebuild=rebuild, told=views.teller(steps), traces=state.debug)
    keys = {step["key"] for step in steps}
    drift = [each for each in where.drift() if rebuild and each["key"] in keys]
    document = {"recipe": read.name, "store": str(where), "steps": steps, "drift": drift}
    give(document, lambda: views.show_run(document, artifacts))
    if drift:
        raise CheckError("content drifted under the same key", where=str(where.root / "drift"), got=f"{len(drift)} artifacts")
    return None
