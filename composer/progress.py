"""Progress of long work, told to whoever listens; the command line draws bars, a library call stays silent.

The listener is a context variable, so that a stage never knows who watches it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Bar(Protocol):
    """What a stage may tell of its progress."""

    def advance(self, n: float = 1) -> None:
        """Say that ``n`` more units are done."""


class Listener(Protocol):
    """Whoever shows progress."""

    def bar(self, label: str, *, total: float | None, unit: str) -> AbstractContextManager[Bar]:
        """Open a bar of ``total`` units."""

    def say(self, line: str) -> None:
        """Show one line of text."""


class Silence:
    """The listener that hears nothing."""

    @contextmanager
    def bar(self, label: str, *, total: float | None, unit: str) -> Iterator[Bar]:  # noqa: ARG002
        """Open a bar that nobody sees."""
        yield self

    def advance(self, n: float = 1) -> None:
        """Take notice of nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""


listener: ContextVar[Listener] = ContextVar("listener", default=Silence())  # noqa: B039


def bar(label: str, *, total: float | None = None, unit: str = "rows") -> AbstractContextManager[Bar]:
    """Open a progress bar for work of ``total`` units."""
    return listener.get().bar(label, total=total, unit=unit)


def say(line: str) -> None:
    """Show one line of text to whoever listens."""
    listener.get().say(line)


def track(items: Iterable[T], label: str, *, total: float | None = None, unit: str = "rows") -> Iterator[T]:
    """Yield the items and advance a bar by one for each.

    Examples
    --------
    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(label, total=total, unit=unit) as shown:
        for item in items:
            yield item
            shown.advance()
