"""The command ``trial``: arms beside their controls, over the same seeds, with a verdict in words."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.command import DebugOption, DryOption, JsonOption, Overrides, PlainOption, RecipePath, StoreOption, begin, give

ArmOption = Annotated[
    list[str] | None, typer.Option("--arm", help="One arm: NAME key=value key=value. NAME alone is the recipe as it stands.")
]
ArmsOption = Annotated[
    list[str] | None, typer.Option("--arms", help="An arm for every value: key=value,value, such as law=inverse,knowledge.")
]
SeedsOption = Annotated[int | None, typer.Option("--seeds", help="Runs of every arm (default: the recipe's, or 5).", min=2)]
MeasureOption = Annotated[
    str | None, typer.Option("--measure", help="What is judged: loss, exact_match, gain, kept, forgotten, or loss.DOMAIN.")
]
WorthOption = Annotated[float | None, typer.Option("--worth", help="The smallest difference that is worth knowing.")]
VaryOption = Annotated[bool, typer.Option("--vary-base", help="A base model for every seed, where the recipe trains one.")]


def trial(
    recipe: RecipePath, overrides: Overrides = None, arm: ArmOption = None, arms: ArmsOption = None, seeds: SeedsOption = None,
    measure: MeasureOption = None, worth: WorthOption = None, vary_base: VaryOption = False, plain: PlainOption = False,
    dry_run: DryOption = False, store: StoreOption = None, as_json: JsonOption = False, debug: DebugOption = False,
) -> None:  # fmt: skip
    """Train the recipe's arms and their controls over the same seeds and say which differences are real."""
    begin(as_json, debug)
    from flows.trials import running, view
    from flows.trials.arms import read_arm, read_arms
    from flows.trials.design import design

    wanted = [*map(read_arm, arm or ()), *(each for text in arms or () for each in read_arms(text))]
    designed = design(recipe, overrides or (), arms=wanted, seeds=seeds, measure=measure, worth=worth, vary_base=vary_base)
    where = designed.recipe.store_at(store)
    if dry_run:
        planned = running.preview(designed, where)
        return give(planned, lambda: view.show_preview(planned))
    document = running.carried_out(designed, where, plain=plain, traces=debug)
    return give(document, lambda: view.show(document))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Look")(trial)
