"""The data story, from the sources to the exported mixture: a flow to serve, deploy and schedule.

From Python: ``compose.serve(name="nightly", cron="0 3 * * *")``.
"""

from __future__ import annotations

from prefect import flow

from flows.shell import carry_out_recipe


@flow(name="compose")
def compose(recipe: str, overrides: list[str] | None = None, store: str | None = None) -> dict[str, str]:
    """The data story, from the sources to the exported mixture; returns ``{label: kind/key}``."""
    return carry_out_recipe(recipe, overrides=overrides or (), store=store, until="export")
