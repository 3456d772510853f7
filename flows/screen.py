"""What a person sees in the terminal: progress bars with rate and time left on stderr, tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group, RenderableType, RenderHook, RenderResult
from rich.control import Control
from rich.markup import escape
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
from rich.table import Table
from rich.text import Text

from composer.printable import printable
from composer.progress import Bar


class _Printable:
    """What something renders to, without the characters in its texts that a terminal obeys."""

    def __init__(self, inner: RenderableType) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the segments of what is inside; those of rich itself, such as moves of the cursor, are marked and stay."""
        for segment in console.render(self.inner, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


class _Texts(RenderHook):
    """Takes from whatever is printed what a terminal would obey; texts of data sets and models are among it."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return what is to be rendered."""
        return [each if isinstance(each, Control) else _Printable(each) for each in renderables]


def _console(**where: Any) -> Console:
    console = Console(highlight=False, **where)
    console.push_render_hook(_Texts())
    return console


err, out = _console(stderr=True), _console()


LONG = 8  # more columns than this make a table too wide for a terminal


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, text: int = 1) -> Group:
    """Return a title and a table whose first ``text`` columns are words and whose others are numbers."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        shown.add_column(column, justify="left" if i < text else "right", no_wrap=i < text)
    for row in rows:
        shown.add_row(*(escape(number(cell)) for cell in row))
    return Group(Text(title, style="bold"), shown)


def number(value: object) -> str:
    """Return a value as a person reads it.

    Examples
    --------
    >>> number(1234567), number(0.12345), number(None), number("law")
    ('1,234,567', '0.123', '-', 'law')
    """
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


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
    """The listener of the command line: one live display of all open bars, lines of text between."""

    def __init__(self) -> None:
        self._live: Progress | None = None
        self._open = 0
        self._lock = Lock()

    @contextmanager
    def bar(self, label: str, *, total: float | None, unit: str) -> Iterator[Bar]:
        """Show a bar; one beside or inside another joins the same display, which ends with the last of them."""
        with self._lock:
            if self._live is None:
                self._live = _display()
                self._live.start()
            shown, self._open = self._live, self._open + 1
        task = shown.add_task(label, total=total, unit=unit)
        try:
            yield _Task(shown, task)
        finally:
            shown.remove_task(task)
            with self._lock:
                self._open -= 1
                if not self._open:
                    shown.stop()
                    self._live = None

    def say(self, line: str) -> None:
        """Show one line."""
        err.print(line, style="dim", markup=False, soft_wrap=True)


def _display() -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn("left"), console=err, transient=True, disable=not sys.stderr.isatty(),
    )  # fmt: skip


class _Task:
    def __init__(self, progress: Progress, task: object) -> None:
        self._progress, self._task = progress, task

    def advance(self, n: float = 1) -> None:
        """Move the bar."""
        self._progress.advance(self._task, n)  # type: ignore[arg-type]
