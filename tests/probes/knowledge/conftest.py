"""What the knowledge probes' tests share: reference texts, and a listener that keeps every line."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest

from composer.progress import Silence, listener
from tests.probes.knowledge.writing import examples


class Ear(Silence):
    """A listener that keeps every line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def told() -> Iterator[list[str]]:
    ear = Ear()
    token = listener.set(ear)
    yield ear.lines
    listener.reset(token)


@pytest.fixture(scope="module")
def reference() -> pl.DataFrame:
    return examples()
