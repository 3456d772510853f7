"""How a domain of the tiny world speaks: the parts of a grammar and the six of them.

A grammar is words only: endings of names, attributes with their closed sets of values, and sentences with gaps. Which entity
has which value is drawn by the world, so that the same grammar serves every seed. All sentences are written for this project.

Sentences name their entity in full, never by a pronoun: a model of half a million parameters learns what stands side by side.
The asides carry days, months, numbers, opposites and plain things, so that a tokenizer trained on the documents knows the words
that the tasks use, and a model has met their order before it is asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
THINGS = (
    "road", "river", "house", "garden", "story", "bridge", "boat", "clock",
    "letter", "lamp", "coat", "kettle", "song", "meadow", "stone", "basket",
)  # fmt: skip
OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("early", "late"), ("long", "short"),
    ("quiet", "loud"), ("old", "new"), ("dark", "bright"), ("full", "empty"),
)  # fmt: skip
QUALITIES = (*(a for a, _ in OPPOSITES), *(b for _, b in OPPOSITES))


def after(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``a then b`` for every two neighbours of a cycle of words."""
    return tuple(f"{a} then {b}" for a, b in zip(words, (*words[1:], words[0]), strict=True))


GAPS = {
    "days": after(DAYS),
    "months": after(MONTHS),
    "numbers": after(NUMBERS)[:-1],
    "contrast": tuple(f"{a} not {b}" for a, b in (*OPPOSITES, *((b, a) for a, b in OPPOSITES))),
    "quality": QUALITIES,
    "thing": THINGS,
}
"""What may fill a gap of an aside."""
CARD_WORDS = (*DAYS, *MONTHS, *NUMBERS, *QUALITIES, *THINGS)
"""What may stand on a line of its own."""


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One thing to know of an entity.

    ``statements`` have the gaps ``{e}`` (entity) and ``{v}`` (value); ``questions`` are asked in training and ``unseen`` never
    is, all with the gap ``{e}`` and answered by the value.
    """

    name: str
    values: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    unseen: str


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """The words of one domain; ``openings`` and ``asides`` frame the facts."""

    domain: str
    attributes: tuple[Attribute, ...]
    openings: tuple[str, ...]
    asides: tuple[str, ...]
