"""Carrying the short runs out, and what they would do."""

from __future__ import annotations

import time
from typing import Any

from composer.artifact import Artifact, Store
from flows.inputs import supply
from flows.plan import Step
from flows.prediction.design import Asked
from flows.prediction.plan import pool_plan, prediction_plan, sizes_of
from flows.prediction.telling import told
from flows.shell import carry_out
from flows.trials.running import outlook, walked


def carried_out(wanted: Asked, store: Store, *, plain: bool, traces: bool = False) -> dict[str, Any]:
    """Carry out what is missing of the short runs and return what they predict, as plain values.

    The pool comes first: how much data there is bounds the mixtures that are run.
    """
    begun, pool, first = time.time(), pool_plan(wanted, store), list[str]()

    def heard(step: Step, _: Artifact, was_there: bool) -> None:
        first.extend([] if was_there else [step.label])

    samples = carry_out(pool, store, plain=plain, told=heard, traces=traces)["pool"]
    made = wanted.designed(supply(samples, wanted.recipe.targets, wanted.recipe.budget.unit))
    plan = prediction_plan(made, store)
    predicted, done = walked(plan, store, until="predict", measure=wanted.measure, plain=plain, traces=traces)
    done |= {"made": done["made"] + len(first), "minutes": round((time.time() - begun) / 60, 2)}
    return {**document(predicted), **done}


def document(predicted: Artifact) -> dict[str, Any]:
    """Return what was predicted, with what is to be said of it, as plain values."""
    found = predicted.json("prediction.json")
    return {"prediction": f"{predicted.kind}/{predicted.key}", **found, **told(found)}


def preview(wanted: Asked, store: Store) -> dict[str, Any]:
    """Return which short runs would be made, what of them is there and to do, and what the trainings would take."""
    sizes = sizes_of(wanted, store)
    made = wanted.designed(sizes)
    plan = prediction_plan(made, store)
    return {"design": made.design.identity(), "pooled": sizes is not None, **outlook(plan, store)}
