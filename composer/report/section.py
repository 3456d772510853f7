"""What a section of the page is made of: figures, each with the table behind it, tables, and sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from markupsafe import Markup

from composer.artifact import Artifact
from composer.report.record import Record


@dataclass(frozen=True)
class Table:
    """Rows below named columns; what is a number stands to the right."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    title: str = ""
    kind: Literal["table"] = "table"

    @cached_property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(any(_is_number(row[i]) for row in self.rows) for i in range(len(self.columns)))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a colour's class, the shape that bears it, and what it stands for."""

    css: str
    word: str
    shape: Literal["box", "dot", "ring", "diamond", "tick", "hatch", "dash", "line"] = "box"


@dataclass(frozen=True)
class Figure:
    """A picture with its caption, its legend and the numbers that it was drawn from."""

    title: str
    plot: Markup
    table: Table
    note: str = ""
    keys: tuple[Key, ...] = ()
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True)
class Words:
    """A sentence or two; the tone ``warn`` wants attention."""

    text: str
    tone: Literal["plain", "warn"] = "plain"
    kind: Literal["words"] = "words"


@dataclass(frozen=True)
class Case:
    """Two texts side by side, with what is said of them."""

    title: str
    texts: tuple[tuple[str, str], ...]
    kind: Literal["case"] = "case"


@dataclass(frozen=True)
class Beside:
    """Tables that stand side by side where there is room."""

    tables: tuple[Table, ...]
    kind: Literal["beside"] = "beside"


@dataclass(frozen=True)
class Heading:
    """The title of what follows."""

    text: str
    kind: Literal["heading"] = "heading"


Part = Table | Figure | Words | Case | Beside | Heading


@dataclass(frozen=True)
class Panel:
    """What one run shows in a section, and the artifacts that it was read from."""

    parts: Sequence[Part]
    artifacts: Sequence[Artifact] = field(default=())


@dataclass(frozen=True)
class Chapter:
    """A section of the page: its anchor, its title, what it shows in a sentence, and how a run's panel is made.

    ``panel(run, runs)`` is None where the run has nothing of it; ``runs`` are all that the page shows, for common scales.
    """

    slug: str
    title: str
    lead: str
    panel: Callable[[Record, Sequence[Record]], Panel | None]
