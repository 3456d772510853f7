"""The tiny world: six domains of invented entities, the facts about them, and texts and questions that state and ask them.

It is small enough for a model of half a million parameters to learn in a minute on one core, and everything in it is known:
which domain a text belongs to, which facts a model can have read, and which of them it was ever asked. What a probe, a mixture
or a replay policy claims can therefore be checked against the truth.

Half of the entities are ``known``: their facts are asked in fine-tuning. The other half is ``new``: a model that answers about
them has the answer from its pretraining.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from composer.errors import InputError, nearest
from composer.spec import Spec, rng
from flows.demo.grammar import CARD_WORDS, GAPS, Attribute, Grammar
from flows.demo.grammar_code import CODE
from flows.demo.grammar_finance import FINANCE
from flows.demo.grammar_general import GENERAL
from flows.demo.grammar_law import LAW
from flows.demo.grammar_medicine import MEDICINE
from flows.demo.grammar_science import SCIENCE

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

GRAMMARS: Mapping[str, Grammar] = {g.domain: g for g in (LAW, MEDICINE, FINANCE, SCIENCE, CODE, GENERAL)}
DOMAINS = tuple(GRAMMARS)
REFERENCE = 200
"""Documents per domain that show a judge what the domain looks like."""

_SIZES = (1, 1, 2, 3, 1)
_CARD = 4
_ONSETS = ("B", "Br", "D", "Dr", "F", "G", "Gr", "H", "K", "L", "M", "N", "P", "Pr", "R", "S", "St", "T", "Tr", "V")
_MIDDLES = ("al", "am", "el", "en", "il", "in", "ol", "or", "ul", "ur")
_ENDINGS = ("", "a", "o")


@dataclass(frozen=True)
class Fact:
    """One thing that is so: the value of an entity's attribute, and whether it is asked in fine-tuning."""

    domain: str
    entity: str
    attribute: str
    value: str
    known: bool


class World(Spec):
    """Entities and facts drawn from the grammars by a seed; ``entities`` is their number in each domain.

    Names are distinct over all domains. Values are dealt out evenly: of ``n`` entities each of ``k`` values belongs to
    ``floor(n / k)`` or one more, so guessing the commonest answer is right about once in ``k``.

    Examples
    --------
    >>> world = World(entities=12)
    >>> len(world.facts("law")), len(world.entities_of("law"))
    (36, 12)
    """

    seed: int = 0
    entities: int = Field(default=32, ge=12, le=96, multiple_of=2)

    def facts(self, domain: str) -> list[Fact]:
        """Return every fact of a domain, entity by entity; the first half of the entities is known."""
        return [fact for facts in self._facts[_known(domain)].values() for fact in facts]

    def entities_of(self, domain: str, *, known: bool | None = None) -> list[str]:
        """Return the names of a domain's entities: all, the known or the new ones."""
        return [entity for entity, facts in self._facts[_known(domain)].items() if known is None or facts[0].known is known]

    def documents(self, domain: str, n: int, *, seed: int) -> list[str]:
        """Return ``n`` short documents (15 to 50 words) that state facts of one to three entities in varying wordings.

        The first documents of a longer list are those of a shorter one. Texts may recur, as they do in real corpora.
        """
        grammar, dice = GRAMMARS[_known(domain)], rng(self.seed, "documents", domain, seed)
        facts = list(self._facts[domain].values())
        return [_document(grammar, facts, dice) for _ in range(n)]

    def questions(self, domain: str, *, seed: int) -> list[dict[str, str]]:
        """Return Alpaca rows that ask for the domain's facts, in an order drawn by the seed.

        ``split`` is ``train`` (known entities, every training wording), ``known`` (the same facts in a wording that training
        never shows) or ``new`` (entities never asked in training, one training wording drawn by the seed).
        """
        grammar, dice = GRAMMARS[_known(domain)], rng(self.seed, "questions", domain, seed)
        attributes = {a.name: a for a in grammar.attributes}
        rows: list[dict[str, str]] = []
        for fact in self.facts(domain):
            asked = attributes[fact.attribute]
            if fact.known:
                rows += [_question(fact, wording, "train") for wording in asked.questions]
                rows.append(_question(fact, asked.unseen, "known"))
            else:
                rows.append(_question(fact, _pick(dice, asked.questions), "new"))
        return [rows[i] for i in dice.permutation(len(rows))]

    @cached_property
    def _facts(self) -> dict[str, dict[str, list[Fact]]]:
        names = self._names()
        return {domain: self._deal(domain, names[domain]) for domain in DOMAINS}

    def _names(self) -> dict[str, list[str]]:
        """Deal one-word names to the domains, the shortest first: what a small vocabulary holds whole is learnt fastest."""
        dice, out = rng(self.seed, "names"), []
        for ending in _ENDINGS:
            every = ["".join(parts) + ending for parts in product(_ONSETS, _MIDDLES)]
            out += [every[i] for i in dice.permutation(len(every))]
        dealt = {domain: out[k :: len(DOMAINS)][: self.entities] for k, domain in enumerate(DOMAINS)}
        return {**dealt, "code": [name.lower() for name in dealt["code"]]}

    def _deal(self, domain: str, names: list[str]) -> dict[str, list[Fact]]:
        dice, half = rng(self.seed, "facts", domain), len(names) // 2
        facts: dict[str, list[Fact]] = {name: [] for name in names}
        for attribute in GRAMMARS[domain].attributes:
            # Each half is dealt on its own, so that the answers of known and of new entities are equally frequent.
            for start, part in ((0, names[:half]), (half, names[half:])):
                for name, i in zip(part, dice.permutation(len(part)), strict=True):
                    value = attribute.values[int(i) % len(attribute.values)]
                    facts[name].append(Fact(domain, name, attribute.name, value, known=start == 0))
        return facts


def write(world: World, folder: Path, *, seed: int, documents: int) -> None:
    """Write the world as JSON lines, byte for byte the same for the same arguments.

    ``documents/<domain>.jsonl`` holds ``documents`` texts per domain, ``reference/<domain>.jsonl`` further texts of the same
    kind, ``questions/<domain>.jsonl`` and ``tasks/<task>.jsonl`` Alpaca rows with their split.
    """
    from flows.demo.tasks import tasks

    for domain in DOMAINS:
        texts = world.documents(domain, documents + REFERENCE, seed=seed)
        _write(folder / "documents" / f"{domain}.jsonl", ({"text": text} for text in texts[:documents]))
        _write(folder / "reference" / f"{domain}.jsonl", ({"text": text} for text in texts[documents:]))
        _write(folder / "questions" / f"{domain}.jsonl", world.questions(domain, seed=seed))
    for task, rows in tasks(world, seed=seed).items():
        _write(folder / "tasks" / f"{task}.jsonl", rows)


def _known(domain: str) -> str:
    if domain not in GRAMMARS:
        raise InputError("no such domain in the tiny world", got=domain, hint=nearest(domain, GRAMMARS))
    return domain


def _document(grammar: Grammar, facts: list[list[Fact]], dice: np.random.Generator) -> str:
    """Draw a portrait of one entity, a comparison of two, one attribute of three, or an index card of one."""
    form = int(dice.integers(len(_SIZES)))
    chosen = [facts[i] for i in dice.choice(len(facts), size=_SIZES[form], replace=False)]
    if form == _CARD:
        return _card(chosen[0], dice)
    if len(chosen) == 1:
        stated = [chosen[0][i] for i in dice.permutation(len(chosen[0]))]
    elif len(chosen) == 2:
        stated = [*_two(chosen[0], dice), _pick(dice, chosen[1])]
    else:
        which = int(dice.integers(len(grammar.attributes)))
        stated = [one[which] for one in chosen]
    wordings = {a.name: a for a in grammar.attributes}
    sentences = [_pick(dice, grammar.openings).format(e=chosen[0][0].entity)]
    sentences += [_state(fact, wordings[fact.attribute], dice) for fact in stated]
    if dice.integers(2):
        sentences.insert(int(dice.integers(1, len(sentences) + 1)), _aside(grammar, dice))
    return " ".join(sentences)


def _card(facts: list[Fact], dice: np.random.Generator) -> str:
    # Values and words begin a line here, as an answer does: a byte-level tokenizer has other tokens for them there.
    lines = [facts[0].domain]
    for i in dice.permutation(len(facts)):
        lines += [f"{facts[i].attribute} of {facts[i].entity}", facts[i].value]
    lines += [_pick(dice, CARD_WORDS) for _ in range(3)]
    return "\n".join(lines)


def _two(facts: list[Fact], dice: np.random.Generator) -> Iterator[Fact]:
    return (facts[i] for i in dice.permutation(len(facts))[:2])


def _state(fact: Fact, attribute: Attribute, dice: np.random.Generator) -> str:
    return _pick(dice, attribute.statements).format(e=fact.entity, v=fact.value)


def _aside(grammar: Grammar, dice: np.random.Generator) -> str:
    return _pick(dice, grammar.asides).format(**{gap: _pick(dice, words) for gap, words in GAPS.items()})


def _pick(dice: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(dice.integers(len(items)))]


def _question(fact: Fact, wording: str, split: str) -> dict[str, str]:
    return {"instruction": wording.format(e=fact.entity), "input": "", "output": fact.value, "split": split}


def _write(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
