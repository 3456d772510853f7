"""A listener that remembers what it is told."""

from __future__ import annotations

from composer.progress import Silence


class Heard(Silence):
    """The lines that were said while it listened."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)
