"""The plan of a run: steps with keys that are known before anything is done.

A step is a stage with its values and its inputs, which are other steps. Its key follows from the recipe, the content of the
sources and the keys of its inputs, so a dry run, a single command and a scheduled flow all read the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from composer.artifact import Artifact, Store
from composer.errors import SpecError
from flows.recipe import Recipe
from flows.spread import Spread, Spreader
from flows.stages import STAGES, Stage


@dataclass(frozen=True, eq=False)
class Step:
    """One stage to do: ``values`` bear identity, ``inputs`` are steps or tuples of steps."""

    label: str
    stage: Stage
    values: Mapping[str, Any]
    inputs: Mapping[str, Step | tuple[Step, ...]]

    @cached_property
    def key(self) -> str:
        """The key of the artifact that this step leaves."""
        return Store.key(self.stage.kind, version=self.stage.version, spec=self.values, inputs=self.input_keys)

    @cached_property
    def input_keys(self) -> dict[str, Any]:
        """The keys of the inputs, by role."""
        return {r: [s.key for s in each] if isinstance(each, tuple) else each.key for r, each in self.inputs.items()}

    @property
    def needs(self) -> tuple[Step, ...]:
        """Every step that this one reads."""
        return tuple(s for each in self.inputs.values() for s in (each if isinstance(each, tuple) else (each,)))

    def perform(
        self, store: Store, inputs: Mapping[str, Any], *, rebuild: bool = False, spreader: Spreader | None = None
    ) -> Artifact:
        """Return the step's artifact, built of its inputs' if it is not in the store, its shards by ``spreader``."""
        spread = None if spreader is None else lambda folder: spreader.of(self, store, folder, inputs)
        return perform(self.stage, self.values, inputs, store, rebuild=rebuild, spread=spread)


def perform(
    stage: Stage, values: Mapping[str, Any], inputs: Mapping[str, Any], store: Store, *, rebuild: bool = False,
    spread: Callable[[Path], Spread] | None = None,
) -> Artifact:  # fmt: skip
    """Return the artifact of a stage with these values and inputs, built if it is not in the store.

    ``spread`` says, of the folder that is built in, who makes the shards of a stage that can be split.
    """
    given = {**values, **inputs, **({"past": _past(stage, store, rebuild)} if stage.reuses else {})}

    def build(folder: Path) -> Mapping[str, Any]:
        if spread is not None and stage.shards is not None:
            given["spread"] = spread(folder)
        return stage.build(folder, **given)

    keys = {r: [a.key for a in each] if isinstance(each, tuple) else each.key for r, each in inputs.items()}
    return store.make(stage.kind, version=stage.version, spec=values, inputs=keys, build=build, rebuild=rebuild)


def _past(stage: Stage, store: Store, rebuild: bool) -> tuple[Artifact, ...]:
    """Return the artifacts of a stage's kind that may know part of the answer; none where it is to be found anew."""
    same = (each for each in store.all(stage.kind) if each.manifest.version == stage.version)
    return () if rebuild else tuple(same)


@dataclass(frozen=True)
class Plan:
    """The steps of a run, each after those that it reads."""

    recipe: Recipe
    steps: tuple[Step, ...]

    def until(self, command: str) -> Plan:
        """Return the plan of one command: its steps and what they read."""
        wanted: set[int] = set()
        for step in reversed(self.steps):
            if step.stage.name == command or id(step) in wanted:
                wanted |= {id(step), *(id(each) for each in step.needs)}
        if not wanted:
            raise SpecError(f"this recipe has no stage '{command}'", where=self.recipe.name, hint="the recipe switches it off")
        return Plan(self.recipe, tuple(step for step in self.steps if id(step) in wanted))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)


class Teller:
    """Collects the steps of a story: ``call("mix", law=..., samples=step)`` sorts values from inputs."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, command: str, label: str = "", /, **given: Any) -> Step:
        inputs = {k: v for k, v in given.items() if isinstance(v, Step) or _steps(v)}
        values = {k: v for k, v in given.items() if k not in inputs and v is not None}
        step = Step(f"{command} {label}".strip(), STAGES[command], values, inputs)
        self.steps.append(step)
        return step


def _steps(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(each, Step) for each in value)


Call = Callable[..., Step]
