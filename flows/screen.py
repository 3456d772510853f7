"""What a person sees in the terminal: progress bars with rate and time left on stderr, tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip
from rich.text import Text

from composer.progress import Bar

err = Console(stderr=True, highlight=False)
out = Console(highlight=False)


class Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """Return the rate of a task."""
        speed = task.finished_speed or task.speed
        return Text(
            ""
            if speed is None
            else f"{speed:,.0f} {task.fields['unit']}/s"
            if speed >= 10
            else f"{speed:.2f} {task.fields['unit']}/s"
        )


class Screen:
    """The listener of the command line: one live bar at a time, lines of text between."""

    def __init__(self) -> None:
        self._live: Progress | None = None

    @contextmanager
    def bar(self, label: str, *, total: float | None, unit: str) -> Iterator[Bar]:
        """Show a bar; one inside another joins the same display."""
        outer = self._live
        shown = outer or Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("left"), console=err, transient=True, disable=not sys.stderr.isatty(),
        )  # fmt: skip
        if outer is None:
            self._live = shown
            shown.start()
        task = shown.add_task(label, total=total, unit=unit)
        try:
            yield _Task(shown, task)
        finally:
            shown.remove_task(task)
            if outer is None:
                shown.stop()
                self._live = None

    def say(self, line: str) -> None:
        """Show one line."""
        err.print(line, style="dim", markup=False, soft_wrap=True)


class _Task:
    def __init__(self, progress: Progress, task: object) -> None:
        self._progress, self._task = progress, task

    def advance(self, n: float = 1) -> None:
        """Move the bar."""
        self._progress.advance(self._task, n)  # type: ignore[arg-type]
