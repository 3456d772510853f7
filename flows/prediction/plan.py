"""The plans of a prediction: the pool, which says how much data there is, and then the short runs up to their law."""

from __future__ import annotations

from composer.artifact import Store
from composer.fingerprint import Fingerprints
from flows.inputs import supply
from flows.pipeline import make_plan
from flows.plan import Plan, Step
from flows.prediction.design import Asked, Designed, Sizes
from flows.recipe import Recipe
from flows.trials.plan import Once, Told, labelled, tell_run


def pool_plan(wanted: Asked, store: Store) -> Plan:
    """Return the plan of the pool that all short runs share."""
    return make_plan(Recipe(**wanted.short), store, base_seed=wanted.recipe.seed).until("pool")


def sizes_of(wanted: Asked, store: Store) -> Sizes | None:
    """Return what every target domain can supply once, in the unit of the budget; None before the pool is there."""
    pool = pool_plan(wanted, store).steps[-1]
    samples = store.find(pool.stage.kind, pool.key)
    return None if samples is None else supply(samples, wanted.recipe.targets, wanted.recipe.budget.unit)


def prediction_plan(made: Designed, store: Store) -> Plan:
    """Return the plan of all short runs, in which what they share is one step, up to the step that tells their law."""
    call, prints, design = Once(), Fingerprints(store.root), made.design
    told = [
        tell_run(call, f"{arm.name}/{design.seed}", arm.of(made.fields, seed=design.seed), prints, base_seed=made.base_seed)
        for arm in design.runs
    ]
    runs = {arm.name: _of(run) for arm, run in zip(design.runs, told, strict=True)}
    call("predict", design=design, **runs)
    steps = Plan(made.recipe, tuple(call.steps)).until("predict").steps
    return Plan(made.recipe, tuple(labelled(steps, told)))


def _of(run: Told) -> tuple[Step, ...]:
    """Return what is read of a run: what it kept, the rows that it trained on, and the model."""
    model = run.trained[-1]
    composition = model.inputs["composition"]
    assert isinstance(composition, Step)
    return run.retained, composition, model
