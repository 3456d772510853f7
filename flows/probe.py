"""What the base model knows, measured: a flow to serve, deploy and schedule.

From Python: ``probe.serve(name="nightly", cron="0 3 * * *")``.
"""

from __future__ import annotations

from prefect import flow

from flows.shell import carry_out_recipe


@flow(name="probe")
def probe(recipe: str, overrides: list[str] | None = None, store: str | None = None) -> dict[str, str]:
    """What the base model knows, measured; returns ``{label: kind/key}``."""
    return carry_out_recipe(recipe, overrides=overrides or (), store=store, until="probe")
