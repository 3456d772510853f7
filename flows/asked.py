"""What a scheduled flow is asked for: typed parameters, of which Prefect's page makes a form, and the recipe they name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from composer.errors import SpecError
from flows.command import STAGE_COMMANDS
from flows.recipe import Recipe, read_recipe, recipe_of


def _shown(title: str, description: str, **more: Any) -> Any:
    """Return how a parameter is shown; Prefect takes a field's own title and description away, but not what stands here."""
    return Field(json_schema_extra={"title": title, "description": description, **more})


RecipePath = Annotated[
    str | None, _shown("Recipe", "Path of the recipe, a YAML file, as the worker sees it. Or give its text instead.")
]
RecipeText = Annotated[
    str | None, _shown("Recipe text", "The recipe as YAML, in place of a path. It is kept with the run: no secrets.")
]
OverrideList = Annotated[
    list[str] | None, _shown("Overrides", "key=value on top of the recipe, one an item, such as law.floor=0.05.")
]
StorePath = Annotated[str | None, _shown("Store", "Folder of the artifacts. Empty: the one that the recipe names.")]
Until = Annotated[str | None, _shown("Until", "Stop after this stage. Empty: the whole story.", enum=[*STAGE_COMMANDS, None])]


def asked_recipe(path: str | None, text: str | None, overrides: Sequence[str] | None = ()) -> Recipe:
    """Return the recipe that a path or a text gives.

    Raises
    ------
    SpecError
        Where neither or both are given, and for whatever is wrong with the recipe.
    """
    given = [each for each in (path, text) if each and each.strip()]
    if len(given) != 1:
        came = "both" if given else "neither"
        raise SpecError("no one recipe", where="recipe, recipe_text", expected="a path or a text", got=came)
    return read_recipe(path, overrides or ()) if path and path.strip() else recipe_of(given[0], overrides or ())
