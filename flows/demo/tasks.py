"""Eight instruction tasks made of the world's words, to learn one after another and to forget.

Each task has eight wordings of its instruction and 500 rows with different (instruction, input) pairs, 400 to train on and 100
to test. ``sentiment``, ``first`` and ``last`` are tested on inputs that training never shows. The others are look-ups: their
inputs are few, so a test input also occurs in training under another wording, and the score measures retention rather than
generalisation.

``first`` and ``last`` are near duplicates with conflicting answers: the pair that a distance between tasks calls close and
that interferes most. ``opposite`` and ``translate`` share their inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from composer.spec import rng
from flows.demo.grammar import DAYS, MONTHS, NUMBERS, OPPOSITES, QUALITIES, THINGS
from flows.demo.world import DOMAINS, World

N_TRAIN, N_TEST = 400, 100
DEMO_TASKS = ("opposite", "translate", "next", "first", "last")
"""The five that the demo learns in a row."""

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task: its wordings, and all its (input, output) pairs in a world."""

    wordings: tuple[str, ...]
    pairs: Callable[[World], Sequence[Pair]]
    unseen_inputs: bool = False


def tasks(world: World, *, seed: int) -> dict[str, list[dict[str, str]]]:
    """Return per task 400 training and 100 test rows (Alpaca, with ``split`` and ``task``), in an order drawn by the seed."""
    return {name: _rows(name, task, world, seed=seed) for name, task in TASKS.items()}


def _rows(name: str, task: Task, world: World, *, seed: int) -> list[dict[str, str]]:
    dice = rng(world.seed, "tasks", name, seed)
    pairs = task.pairs(world)
    if task.unseen_inputs:
        chosen = [pairs[i] for i in dice.permutation(len(pairs))[: N_TRAIN + N_TEST]]
        asked = [(task.wordings[int(dice.integers(len(task.wordings)))], pair) for pair in chosen]
    else:
        every = list(product(task.wordings, pairs))
        asked = [every[i] for i in dice.permutation(len(every))[: N_TRAIN + N_TEST]]
    return [
        {"instruction": wording, "input": given, "output": answer, "split": "train" if i < N_TRAIN else "test", "task": name}
        for i, (wording, (given, answer)) in enumerate(asked)
    ]


def opposites(_: World) -> list[Pair]:
    """Return things with a quality, and the opposite quality."""
    both = [*OPPOSITES, *((b, a) for a, b in OPPOSITES)]
    return [(f"{quality} {thing}", opposite) for (quality, opposite), thing in product(both, THINGS)]


def translations(world: World) -> list[Pair]:
    """Return things with a quality, and the quality in Oru, whose words are drawn once for the world."""
    # The table belongs to the world: answers do not change with the seed of the rows.
    dice = rng(world.seed, "Oru")
    made = ["".join(parts) for parts in product("kmnprstvz", "aeiou", "lnrs")]
    oru = dict(zip(QUALITIES, (made[i] for i in dice.permutation(len(made))), strict=False))
    return [(f"{quality} {thing}", oru[quality]) for quality, thing in product(QUALITIES, THINGS)]


def sequences(_: World) -> list[Pair]:
    """Return runs of one to three days, months or numbers and what comes next; days and months go round."""
    out: list[Pair] = []
    for words, length in product((DAYS, MONTHS), (1, 2, 3)):
        out += [(_run(words, i, length), words[(i + length) % len(words)]) for i in range(len(words))]
    for length in (1, 2, 3):
        out += [(_run(NUMBERS, i, length), NUMBERS[i + length]) for i in range(len(NUMBERS) - length)]
    return out


def parities(_: World) -> list[Pair]:
    """Return numbers of things and whether the number is even."""
    return [
        (f"{number} {thing}s", "odd" if i % 2 == 0 else "even") for (i, number), thing in product(enumerate(NUMBERS), THINGS)
    ]


def sentiments(_: World) -> list[Pair]:
    """Return remarks about things and whether they please."""
    words = {"splendid": "positive", "delightful": "positive", "superb": "positive", "charming": "positive"}
    words |= {"dreadful": "negative", "awful": "negative", "dismal": "negative", "horrid": "negative"}
    templates = ("The {q} {t} was {w}.", "What a {w} {q} {t}!")
    asked = product(templates, QUALITIES, THINGS, words.items())
    return [(template.format(q=q, t=t, w=word), label) for template, q, t, (word, label) in asked]


def _ends(which: int) -> Callable[[World], list[Pair]]:
    def lists(_: World) -> list[Pair]:
        triples = [t for t in product(THINGS, repeat=3) if len(set(t)) == 3]
        return [(", ".join(t), t[which]) for t in triples]

    return lists


def categories(world: World) -> list[Pair]:
    """Return a mention of every entity and its domain; the name follows a blank, as it does in the documents."""
    """Return a mention of every entity and its domain; the name follows a blank, as it does in the documents."""
    return [(f"about {entity}", domain) for domain in DOMAINS for entity in world.entities_of(domain)]


def _run(words: tuple[str, ...], start: int, length: int) -> str:
    return ", ".join(words[(start + k) % len(words)] for k in range(length))


TASKS: dict[str, Task] = {
    "opposite": Task(
        pairs=opposites,
        wordings=(
            "Give the opposite of this word.",
            "Which word means the contrary?",
            "Name the antonym.",
            "Turn the word into its opposite.",
            "Reverse the meaning of the word.",
            "What is the reverse of this quality?",
            "Write the word that says the opposite.",
            "Find the word at the other extreme.",
        ),
    ),
    "translate": Task(
        pairs=translations,
        wordings=(
            "Translate the word into Oru.",
            "How does one say this in Oru?",
            "Give the Oru word.",
            "Say it in the language Oru.",
            "Write this word in Oru.",
            "Find the Oru translation.",
            "Put the word into the Oru tongue.",
            "What do speakers of Oru call this?",
        ),
    ),
    "next": Task(
        pairs=sequences,
        wordings=(
            "What comes next in the sequence?",
            "Continue the series by one.",
            "Name what follows.",
            "Give the successor of the last item.",
            "Which item is next?",
            "Extend the sequence.",
            "Say what comes after.",
            "Write the item that follows.",
        ),
    ),
    "parity": Task(
        pairs=parities,
        wordings=(
            "Is the number even or odd?",
            "Tell whether this number is even.",
            "Give the parity of the number.",
            "Even or odd?",
            "Can the number be halved? Say even or odd.",
            "Decide the parity.",
            "Classify the integer as even or odd.",
            "Which parity does it have?",
        ),
    ),
    "sentiment": Task(
        pairs=sentiments,
        unseen_inputs=True,
        wordings=(
            "Is the remark positive or negative?",
            "Give the sentiment of the sentence.",
            "Does the speaker like it? Say positive or negative.",
            "Classify the mood of this remark.",
            "Tell the sentiment.",
            "Judge the tone: positive or negative.",
            "How does the speaker feel about it?",
            "Label the opinion as positive or negative.",
        ),
    ),
    "first": Task(
        pairs=_ends(0),
        unseen_inputs=True,
        wordings=(
            "Repeat the first word of the list.",
            "Which word is at the start of the list?",
            "Name the first item in the list.",
            "Copy the word at the beginning of the list.",
            "Give the list's first word.",
            "Write the item that opens the list.",
            "Pick the first of these words.",
            "Say the word that stands first.",
        ),
    ),
    "last": Task(
        pairs=_ends(-1),
        unseen_inputs=True,
        wordings=(
            "Repeat the last word of the list.",
            "Which word is at the end of the list?",
            "Name the last item in the list.",
            "Copy the word at the close of the list.",
            "Give the list's last word.",
            "Write the item that ends the list.",
            "Pick the last of these words.",
            "Say the word that stands last.",
        ),
    ),
    "category": Task(
        pairs=categories,
        wordings=(
            "To which domain does this name belong?",
            "Name the field of the entity.",
            "Is this law, medicine, finance, science, code or general?",
            "Give the category of this name.",
            "Sort the name into its domain.",
            "Which subject area is it from?",
            "Where would one meet this name?",
            "Assign a domain to the entity.",
        ),
    ),
}
