"""The whole story, from the sources to the retention report: a flow to serve, deploy and schedule.

From Python: ``train.serve(name="nightly", cron="0 3 * * *")``.
"""

from __future__ import annotations

from prefect import flow

from flows.shell import carry_out_recipe


@flow(name="train")
def train(recipe: str, overrides: list[str] | None = None, store: str | None = None) -> dict[str, str]:
    """The whole story, from the sources to the retention report; returns ``{label: kind/key}``."""
    return carry_out_recipe(recipe, overrides=overrides or (), store=store, until=None)
