"""The artifacts that a run leaves on Prefect's pages: at its end what ``flows.told`` says, during long stages their progress.

A stage never fails because a page could not be told: that is logged, and the store holds everything anyway.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from uuid import UUID

from composer.artifact import Artifact, Store
from composer.progress import Bar, Listener, Silence, listener
from flows.plan import Plan, Step
from flows.told import NOTHING, Leaf, Run, draw_page, leaves, slug

LONG_SECONDS = 5.0  # a bar that is open longer than this gets a progress artifact, which is written again this often
Told = Callable[[Step, Artifact, bool], None]


@contextmanager
def watched(plan: Plan, store: Store, told: Told) -> Iterator[Told]:
    """Watch a plan that is carried out inside a running flow; yields what is to be told of every finished step."""
    from prefect.logging import get_run_logger

    run, log = Run(plan, store), get_run_logger()
    before = listener.get()
    hears = Watcher(before, prefix=slug(plan.recipe.name), log=log)

    def heard(step: Step, artifact: Artifact, was_there: bool) -> None:
        run.heard(step, artifact, was_there)
        told(step, artifact, was_there)

    token = listener.set(hears)
    try:
        yield heard
    except Exception as error:
        leave(run, error, log=log)
        raise
    finally:
        listener.reset(token)
    leave(run, log=log)
    log.info(NOTHING if not run.made else f"{len(run.made)} of {len(plan.steps)} stages done, the others were there.")


def leave(run: Run, error: Exception | None = None, *, log: Any) -> None:
    """Leave a run's artifacts, and draw the page that one of them leads to."""
    try:
        draw_page(run)
    except Exception:
        log.warning("The page of the run could not be drawn; sft-composer report says why.", exc_info=True)
    try:
        for leaf in leaves(run, error):
            _create(leaf)
    except Exception:
        log.warning("The run's artifacts could not all be left on this page; the store is complete.", exc_info=True)


def _create(leaf: Leaf) -> None:
    from prefect import artifacts

    given: Any = {"key": leaf.key, "description": leaf.description or None, "_sync": True}
    if leaf.kind == "markdown":
        artifacts.create_markdown_artifact(leaf.content, **given)
    elif leaf.kind == "table":
        artifacts.create_table_artifact(leaf.content, **given)
    elif leaf.kind == "image":
        artifacts.create_image_artifact(leaf.content, **given)
    else:
        artifacts.create_link_artifact(leaf.content[0], link_text=leaf.content[1], **given)


class Watcher:
    """A listener that tells another one all it hears, and Prefect what takes long."""

    def __init__(self, inner: Listener, *, prefix: str, log: Any) -> None:
        self.inner, self.prefix, self.log = inner, prefix, log

    @contextmanager
    def bar(self, label: str, *, total: float | None, unit: str) -> Iterator[Bar]:
        """Open a bar; where its total is known it becomes a progress artifact once it has been open for long."""
        with self.inner.bar(label, total=total, unit=unit) as inner:
            page = Page(f"{self.prefix}-progress-{slug(label)}", label, total, unit, self.log) if total else nullcontext()
            with page as shown:
                yield _Both(inner, shown) if shown else inner

    def say(self, line: str) -> None:
        """Pass a line on, and log it where nobody looks at a terminal."""
        self.inner.say(line)
        if isinstance(self.inner, Silence):
            self.log.info(line)


class _Both:
    def __init__(self, *bars: Bar) -> None:
        self.bars = bars

    def advance(self, n: float = 1) -> None:
        """Move all bars."""
        for bar in self.bars:
            bar.advance(n)


class Page:
    """The progress artifact of one bar; a stage may advance it from any thread."""

    def __init__(self, key: str, label: str, total: float, unit: str, log: Any) -> None:
        from prefect.context import FlowRunContext, TaskRunContext

        flow, task = FlowRunContext.get(), TaskRunContext.get()
        self.runs = {
            "flow_run_id": flow.flow_run.id if flow and flow.flow_run else None,
            "task_run_id": task.task_run.id if task else None,
        }
        self.key, self.label, self.total, self.unit, self.log = key, label, total, unit, log
        self.done, self.silent = 0.0, False
        self.artifact: UUID | None = None
        self.lock, self.told_at = threading.Lock(), time.monotonic()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *error: object) -> None:
        if self.artifact is not None:
            self._tell()

    def advance(self, n: float = 1) -> None:
        """Say that ``n`` more units are done."""
        with self.lock:
            self.done += n
            due = time.monotonic() - self.told_at > LONG_SECONDS and not self.silent
            if due:
                self.told_at = time.monotonic()
        if due:
            self._tell()

    def _tell(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

        percent = round(min(100.0, 100 * self.done / self.total), 2)
        told = f"{self.label}: {self.done:,.0f} of {self.total:,.0f} {self.unit}"
        try:
            client = get_client(sync_client=True)
            if self.artifact is None:
                asked = ArtifactCreate(type="progress", key=self.key, description=told, data=percent, **self.runs)
                self.artifact = client.create_artifact(asked).id
            else:
                client.update_artifact(self.artifact, ArtifactUpdate(data=percent, description=told))
        except Exception:
            self.silent = True
            self.log.warning("Progress could not be told to Prefect; the stage goes on.", exc_info=True)
