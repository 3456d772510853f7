"""The walk through a plan: every step when its inputs are done, as many at once as there are workers.

With one worker the steps are done one after the other, in the order of the plan. With more, a step that computes much in this
process (:func:`heavy`) still has no other such step beside it: such steps fill the memory or the GPU, and some set for a while
how many threads the whole process computes with, on which the last digits of another one may depend. Where they have processes
of their own (:mod:`flows.apart`) they stand beside one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from composer.artifact import Artifact, Store
from composer.errors import unsaid
from composer.progress import say
from flows.apart import Apart
from flows.plan import Plan, Step
from flows.spread import Spreader, import_libraries

Told = Callable[[Step, Artifact, bool], None]
Perform = Callable[..., Artifact]
Wrap = Callable[[Step, Perform, bool], Perform]

LIGHT = frozenset({"ingest", "answers", "tag", "score", "mix", "replay", "export", "retain", "report", "trial", "predict"})
"""Stages that may be done beside any other."""


def heavy(step: Step) -> bool:
    """Return whether no other heavy step may be done beside one: it trains, embeds, asks an engine or does linear algebra."""
    tagger = step.values.get("tagger")
    return step.stage.name not in LIGHT or any(getattr(tagger, name, None) is not None for name in ("engine", "merge"))


@dataclass
class Walk:
    """A way through a plan. ``wrap`` makes of a step's performing what is called, and is told whether it is done already.

    ``told`` hears of the steps in the order of the plan, whichever is done first. Where a step fails, those that are being done
    are brought to their end, no other is begun, and the failure that comes first in the plan is raised. ``apart``
    performs heavy steps in other processes.
    """

    plan: Plan
    store: Store
    told: Told
    wrap: Wrap
    rebuild: bool = False
    workers: int = 1
    spreader: Spreader | None = None
    apart: Apart | None = None
    _done: dict[int, tuple[Artifact, bool]] = field(default_factory=dict)
    _n_told: int = 0

    def carry_out(self) -> dict[str, Artifact]:
        """Do all steps and return their artifacts by label."""
        if self.workers == 1:
            for step in self.plan:
                self._done[id(step)] = self._do(step, self._inputs(step))
                self._tell()
        else:
            self._at_once()
        return {step.label: self._done[id(step)][0] for step in self.plan}

    def _at_once(self) -> None:
        left, running, failed = list(self.plan), dict[Future[tuple[Artifact, bool]], Step](), dict[int, Exception]()
        if not all(self.store.has(step.stage.kind, step.key) for step in left):
            import_libraries()
        pool = ThreadPoolExecutor(self.workers)
        try:
            while running or (left and not failed):
                while not failed and (step := self._next(left, running)):
                    left.remove(step)
                    running[pool.submit(copy_context().run, self._do, step, self._inputs(step))] = step
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    step = running.pop(future)
                    try:
                        self._done[id(step)] = future.result()
                    except Exception as error:
                        failed[self.plan.steps.index(step)] = error
                self._tell(over_gaps=bool(failed) and not running)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if failed:
            raise failed[min(failed)]

    def _next(self, left: list[Step], running: Mapping[Any, Step]) -> Step | None:
        """Return the first step whose inputs are done and for which there is room."""
        if len(running) >= self.workers:
            return None
        taken = self.apart is None and any(heavy(step) for step in running.values())
        ready = (step for step in left if all(id(need) in self._done for need in step.needs))
        return next((step for step in ready if not (taken and heavy(step))), None)

    def _inputs(self, step: Step) -> dict[str, Any]:
        done = self._done
        return {r: tuple(done[id(s)][0] for s in each) if isinstance(each, tuple) else done[id(each)][0]
                for r, each in step.inputs.items()}  # fmt: skip

    def _do(self, step: Step, inputs: Mapping[str, Any]) -> tuple[Artifact, bool]:
        was_there = not self.rebuild and self.store.has(step.stage.kind, step.key)
        if not was_there:
            say(f"{step.label} ...")

        def perform(**inputs: Any) -> Artifact:
            with unsaid():
                if self.apart is not None and heavy(step) and not was_there:
                    return self.apart(step, self.store, inputs, self.rebuild)
                return step.perform(self.store, inputs, rebuild=self.rebuild, spreader=self.spreader)

        return self.wrap(step, perform, was_there)(**inputs), was_there

    def _tell(self, *, over_gaps: bool = False) -> None:
        """Tell of what is done up to the first step that is not, or at the end of what is done beyond it too."""
        for step in self.plan.steps[self._n_told :]:
            if id(step) not in self._done and not over_gaps:
                return
            if id(step) in self._done:
                self.told(step, *self._done[id(step)])
            self._n_told += 1
