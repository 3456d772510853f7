"""What a recipe's probe will cost, measured before it is spent: its counts over the rates of the very engine.

A calibration is remembered beside the artifacts, so that a dry run, which starts no engine, can say the seconds too.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from composer.artifact import Artifact, Store
from composer.fingerprint import write_json
from composer.spec import digest
from flows.inputs import references_of
from flows.models import model_ref, tokenizer_of
from flows.plan import Plan, Step
from flows.shell import carry_out
from probes.cost import Cost, Counts, Rates, calibrate
from probes.cost import estimate as cost_of
from probes.knowledge.self_generation import SelfGeneration

NOTE = "At most; a judge's own reading is not in it. The range is how far the calibration's repeats lay apart."


def spending(plan: Plan, store: Store) -> dict[str, Any]:
    """Return what the probe of a plan asks of the model, how fast the engine is, and the seconds that follow.

    What the probe reads is made first, as the stage itself would (sources, the pool, a base model of the recipe's own). Then
    the engine is opened and measured for a few seconds, which is remembered; nothing of the probe is done.
    """
    step = plan.until("probe").steps[-1]
    made = carry_out(Plan(plan.recipe, plan.until("probe").steps[:-1]), store, plain=True)
    inputs = {role: made[each.label] for role, each in step.inputs.items() if isinstance(each, Step)}
    engine = step.values["engine"]
    with engine.open(model_ref(step.values["model"], inputs.get("base"))) as session:
        counts = _counts(step, inputs, session.tokenizer)
        rates = calibrate(session, counts)
    _remember(store, step, rates)
    done = store.find(step.stage.kind, step.key) is not None
    cost = asdict(_cost(step, counts, rates))
    return {
        "probe": step.values["probe"].name,
        "engine": engine.name,
        "done": done,
        **cost,
        "rates": asdict(rates),
        "note": NOTE,
    }


def foreseen(step: Step, store: Store) -> dict[str, Any] | None:
    """Return what a probe's step asks of the model, as far as that is known before its samples are there, without any engine.

    ``seconds`` and ``device_hours`` follow from the last calibration of this engine with this model on this machine, and are
    None where there was none.
    """
    probe, needed = step.values["probe"], {role: each for role, each in step.inputs.items() if isinstance(each, Step)}
    found = {role: artifact for role, each in needed.items() if (artifact := store.find(each.stage.kind, each.key))}
    if len(found) == len(needed):
        counts = _counts(step, found, tokenizer_of(step.values["model"], found.get("base")))
    elif isinstance(probe, SelfGeneration):  # it asks for texts, whatever the samples are
        counts = probe.plan(domains=step.values["domains"], reference=pl.DataFrame(), tokenizer=None, seed=step.values["seed"])
    else:
        return None
    rates = _recall(store, step, counts)
    cost = _cost(step, counts, rates) if rates else None
    return {
        "step": step.label, "calls": counts.generations, "tokens": counts.prompt_tokens + counts.output_tokens,
        "prompt_tokens": counts.prompt_tokens, "output_tokens": counts.output_tokens,
        "seconds": cost and cost.seconds, "device_hours": cost and cost.device_hours,
    }  # fmt: skip


def _counts(step: Step, inputs: Mapping[str, Artifact], tokenizer: Any) -> Counts:
    reference, _ = references_of(inputs["samples"])
    planned: Counts = step.values["probe"].plan(
        domains=step.values["domains"], reference=reference, tokenizer=tokenizer, seed=step.values["seed"]
    )
    return planned


def _cost(step: Step, counts: Counts, rates: Rates) -> Cost:
    return cost_of(counts, rates, devices=getattr(step.values["engine"], "tensor_parallel_size", 1))


def _remember(store: Store, step: Step, rates: Rates) -> None:
    path, known = _calibrations(store)
    mine = {kind: values for kind, values in asdict(rates).items() if values}
    known[_setting(step)] = {**known.get(_setting(step), {}), **mine}
    write_json(path, known)


def _recall(store: Store, step: Step, counts: Counts) -> Rates | None:
    """Return the remembered rates, where there are those that the counts need."""
    _, known = _calibrations(store)
    rates = Rates(**{kind: tuple(values) for kind, values in known.get(_setting(step), {}).items()})
    missing = (counts.prompt_tokens and not rates.prefill) or (counts.output_tokens and not rates.generation)
    return None if missing else rates


def _calibrations(store: Store) -> tuple[Path, dict[str, Any]]:
    path = store.root / "rates.json"
    try:
        return path, dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return path, {}


def _setting(step: Step) -> str:
    """Return what a rate belongs to: an engine with all its settings, a model, a machine."""
    base = step.inputs.get("base")
    model = base.key if isinstance(base, Step) else step.values["model"].content
    return digest([step.values["engine"].model_dump(mode="json"), model, platform.node(), os.cpu_count()])


def show(document: Mapping[str, Any]) -> None:
    """Print a cost."""
    from flows.screen import out, table

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
