"""What a recipe's probe will cost, measured before it is spent: its counts over the rates of the very engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from composer.artifact import Artifact, Store
from flows.inputs import references_of
from flows.models import model_ref
from flows.pipeline import Plan, Step
from flows.shell import carry_out
from probes.cost import calibrate
from probes.cost import estimate as cost_of

NOTE = "At most; a judge's own reading is not in it. The range is how far the calibration's repeats lay apart."


def spending(plan: Plan, store: Store) -> dict[str, Any]:
    """Return what the probe of a plan asks of the model, how fast the engine is, and the seconds that follow.

    What the probe reads is made first, as the stage itself would (sources, the pool, a base model of the recipe's own). Then
    the engine is opened and measured for a few seconds; nothing of the probe is done.
    """
    step = plan.until("probe").steps[-1]
    made = carry_out(Plan(plan.recipe, plan.until("probe").steps[:-1]), store, plain=True)
    inputs = {role: made[each.label] for role, each in step.inputs.items() if isinstance(each, Step)}
    probe, engine = step.values["probe"], step.values["engine"]
    base: Artifact | None = inputs.get("base")
    reference, _ = references_of(inputs["samples"])
    with engine.open(model_ref(step.values["model"], base)) as session:
        counts = probe.plan(
            domains=step.values["domains"], reference=reference, tokenizer=session.tokenizer, seed=step.values["seed"]
        )
        rates = calibrate(session, counts)
    cost = cost_of(counts, rates, devices=getattr(engine, "tensor_parallel_size", 1))
    done = store.find(step.stage.kind, step.key) is not None
    return {"probe": probe.name, "engine": engine.name, "done": done, **asdict(cost), "rates": asdict(rates), "note": NOTE}


def show(document: Mapping[str, Any]) -> None:
    """Print a cost."""
    from flows.screen import out
    from flows.views import table

    rows = [
        ("texts to write", f"{document['generations']:,}"),
        ("tokens to read", f"{document['prompt_tokens']:,}"),
        ("tokens to write", f"{document['output_tokens']:,}"),
        *((f"tokens per second, {kind}", _range(values)) for kind, values in document["rates"].items() if values),
        ("seconds", f"{document['seconds']:,.0f} ({document['low']:,.0f} to {document['high']:,.0f})"),
        ("device-hours", f"{document['device_hours']:.3f}"),
    ]
    out.print(table(f"Cost of the probe {document['probe']} on {document['engine']}", ("", ""), rows))
    out.print(document["note"] + (" The probe is in the store already: it costs nothing." if document["done"] else ""))


def _range(values: tuple[float, ...]) -> str:
    return f"{min(values):,.0f} to {max(values):,.0f}"
