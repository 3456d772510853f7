"""What the engines' tests share: a listener that remembers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from composer.progress import listener


class Heard:
    """A listener that remembers lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def bar(self, label: str, *, total: float | None, unit: str) -> Iterator[Any]:  # noqa: ARG002
        self.done, self.total = 0.0, total
        yield self

    def advance(self, n: float = 1) -> None:
        self.done += n

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def heard() -> Iterator[Heard]:
    token = listener.set(found := Heard())
    yield found
    listener.reset(token)
