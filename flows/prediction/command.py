"""The command ``predict``: short runs, the law that they follow, and the mixture that it proposes for a trial."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.command import DebugOption, DryOption, JsonOption, Overrides, PlainOption, RecipePath, StoreOption, begin, give

RunsOption = Annotated[int | None, typer.Option("--runs", help="Short runs in all (default: three for every domain).")]
ShareOption = Annotated[float, typer.Option("--budget-share", help="What a short run has of the recipe's budget.")]
DesignOption = Annotated[str, typer.Option("--design", help="How mixtures are laid out: d_optimal or random.")]
MeasureOption = Annotated[str, typer.Option("--measure", help="What is predicted: loss or exact_match.")]
ObjectiveOption = Annotated[str, typer.Option("--objective", help="What is to be best: the mean, or one domain.")]


def predict(
    recipe: RecipePath, overrides: Overrides = None, runs: RunsOption = None, budget_share: ShareOption = 0.25,
    design: DesignOption = "d_optimal", measure: MeasureOption = "loss", objective: ObjectiveOption = "mean",
    plain: PlainOption = False, dry_run: DryOption = False, store: StoreOption = None, as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:  # fmt: skip
    """Train briefly on designed mixtures, tell the law of their losses, and propose a mixture to try."""
    begin(as_json, debug)
    from flows.prediction import running, view
    from flows.prediction.design import asked

    given = {"runs": runs, "budget_share": budget_share, "design": design, "measure": measure, "objective": objective}
    wanted = asked(recipe, overrides or (), **given)  # type: ignore[arg-type]
    where = wanted.recipe.store_at(store)
    if dry_run:
        planned = running.preview(wanted, where)
        return give(planned, lambda: view.show_preview(planned))
    document = running.carried_out(wanted, where, plain=plain, traces=debug)
    return give(document, lambda: view.show(document))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Look")(predict)
