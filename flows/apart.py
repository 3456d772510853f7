"""Steps in processes of their own: an errand says which step, and the process reads the store and writes into it.

The store is what both sides see, so that nothing travels but names, keys and settings; what a process leaves is what the step
would have left here.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from composer.artifact import Artifact, Store
from composer.errors import FaultError
from flows.plan import Step, perform
from flows.spread import found_in, reference

Apart = Callable[[Step, Store, Mapping[str, Any], bool], Artifact]
"""Performs a step with its inputs in another process, building again what is there where the last says so."""


@dataclass(frozen=True)
class Errand:
    """One step to perform: ``inputs`` are kinds and keys by role."""

    store: str
    stage: str
    values: Mapping[str, Any]
    inputs: Mapping[str, Any]
    rebuild: bool


@contextmanager
def processes(workers: int) -> Iterator[Apart]:
    """Start workers that perform steps, and end them."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:

        def perform_apart(step: Step, store: Store, inputs: Mapping[str, Any], rebuild: bool) -> Artifact:
            named = {role: reference(each) for role, each in inputs.items()}
            errand = Errand(str(store), step.stage.name, dict(step.values), named, rebuild)
            kind, key = pool.submit(run_errand, errand).result()
            if (made := store.find(kind, key)) is None:
                raise FaultError("a step left nothing", where=step.label, expected=f"{kind}/{key}")
            return made

        yield perform_apart


def run_errand(errand: Errand) -> tuple[str, str]:
    """Perform a step and return the kind and the key of what it left."""
    from flows.stages import STAGES

    store = Store(errand.store)
    inputs = {role: found_in(store, each) for role, each in errand.inputs.items()}
    made = perform(STAGES[errand.stage], errand.values, inputs, store, rebuild=errand.rebuild)
    return made.kind, made.key
