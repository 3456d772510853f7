"""The data story, from the sources to the exported mixture: a flow to serve, deploy and schedule.

From Python: ``compose.serve(name="nightly", cron="0 3 * * *", parameters={"recipe": "recipe.yaml"})``.
"""

# Annotations are real here and not strings: who serves a flow hands it to a process of its own without the names of this file.
from flows.asked import OverrideList, RecipePath, RecipeText, StorePath, Until, asked_recipe
from flows.shell import as_flow, carry_out_recipe


@as_flow("compose")
def compose(
    recipe: RecipePath = None, recipe_text: RecipeText = None, overrides: OverrideList = None, store: StorePath = None,
    until: Until = "export",
) -> dict[str, str]:  # fmt: skip
    """The data story, from the sources to the exported mixture; returns ``{label: kind/key}``."""
    return carry_out_recipe(asked_recipe(recipe, recipe_text, overrides), store=store, until=until)
