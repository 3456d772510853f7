"""The tiny world: the same bytes for the same seed, facts that no text contradicts, and domains that can be told apart."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from composer.errors import InputError, SpecError
from flows.demo.world import DOMAINS, GRAMMARS, REFERENCE, World, write

WORLD = World()


def test_writing_twice_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(World(entities=12), tmp_path / name, seed=seed, documents=20)
    files = {name: _bytes(tmp_path / name) for name in "abc"}
    assert files["a"] == files["b"]
    assert files["a"].keys() == files["c"].keys()
    assert all(files["a"][name] != files["c"][name] for name in files["a"])


def test_the_folder_holds_what_it_promises(tmp_path: Path) -> None:
    write(World(entities=12), tmp_path, seed=1, documents=20)
    assert {p.parent.name for p in tmp_path.rglob("*.jsonl")} == {"documents", "reference", "questions", "tasks"}
    for domain in DOMAINS:
        assert len(_lines(tmp_path / "documents" / f"{domain}.jsonl")) == 20
        assert len(_lines(tmp_path / "reference" / f"{domain}.jsonl")) == REFERENCE
        assert _lines(tmp_path / "questions" / f"{domain}.jsonl") == World(entities=12).questions(domain, seed=1)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_longer_list_of_documents_begins_with_the_shorter(domain: str) -> None:
    assert WORLD.documents(domain, 30, seed=5)[:10] == WORLD.documents(domain, 10, seed=5)
    assert WORLD.documents(domain, 10, seed=5) != WORLD.documents(domain, 10, seed=6)


@pytest.mark.parametrize("seed", [0, 1])
def test_names_are_distinct_over_all_domains(seed: int) -> None:
    for entities in (12, 96):
        world = World(seed=seed, entities=entities)
        names = [name for domain in DOMAINS for name in world.entities_of(domain)]
        assert len(names) == len(set(names)) == entities * len(DOMAINS)
    assert World(seed=0).facts("law") != World(seed=1).facts("law")


@pytest.mark.parametrize("domain", DOMAINS)
def test_half_of_the_entities_are_known_and_the_halves_do_not_meet(domain: str) -> None:
    known, new = (set(WORLD.entities_of(domain, known=each)) for each in (True, False))
    assert len(known) == len(new) == WORLD.entities // 2
    assert not known & new
    rows = WORLD.questions(domain, seed=0)
    asked = {split: _mentioned(rows, split, domain) for split in ("train", "known", "new")}
    assert asked == {"train": known, "known": known, "new": new}


@pytest.mark.parametrize("domain", DOMAINS)
def test_values_are_dealt_evenly_in_both_halves(domain: str) -> None:
    for attribute in GRAMMARS[domain].attributes:
        for known in (True, False):
            counts = Counter(f.value for f in WORLD.facts(domain) if f.attribute == attribute.name and f.known is known)
            assert set(counts) == set(attribute.values)
            assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_question_is_answered_by_the_fact_and_unseen_wordings_stay_unseen(domain: str) -> None:
    answers = {
        wording.format(e=fact.entity): fact.value
        for fact in WORLD.facts(domain)
        for attribute in GRAMMARS[domain].attributes
        if attribute.name == fact.attribute
        for wording in (*attribute.questions, attribute.unseen)
    }
    rows = WORLD.questions(domain, seed=3)
    assert all(answers[row["instruction"]] == row["output"] for row in rows)
    assert all(1 <= len(row["output"].split()) <= 3 for row in rows)
    train = {row["instruction"] for row in rows if row["split"] == "train"}
    assert not train & {row["instruction"] for row in rows if row["split"] != "train"}
    facts = len(WORLD.facts(domain)) // 2
    assert Counter(row["split"] for row in rows) == {"train": 2 * facts, "known": facts, "new": facts}


@pytest.mark.parametrize("domain", DOMAINS)
def test_documents_state_only_facts(domain: str) -> None:
    held: dict[str, set[str]] = {}
    for fact in WORLD.facts(domain):
        held.setdefault(fact.entity, set()).add(fact.value)
    stated = 0
    sentences = {
        statement.format(e=entity, v=value): value in held[entity]
        for attribute in GRAMMARS[domain].attributes
        for statement in attribute.statements
        for entity in held
        for value in attribute.values
    }
    for document in WORLD.documents(domain, 100, seed=1):
        said = [true for sentence, true in sentences.items() if f" {sentence}" in f" {document}"]
        assert all(said)
        stated += len(said)
    assert stated > 200


@pytest.mark.parametrize("domain", DOMAINS)
def test_grammars_vary_their_wordings(domain: str) -> None:
    grammar = GRAMMARS[domain]
    assert len(set(grammar.openings)) >= 5
    assert len(set(grammar.asides)) >= 6
    for attribute in grammar.attributes:
        assert len(set(attribute.statements)) >= 4
        assert attribute.unseen not in attribute.questions
        assert all("{e}" in text for text in (*attribute.statements, *attribute.questions, attribute.unseen))
    lengths = [len(document.split()) for document in WORLD.documents(domain, 300, seed=1)]
    assert 12 <= min(lengths) <= max(lengths) <= 60


def test_domains_can_be_told_apart() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def corpus(seed: int, n: int) -> tuple[list[str], list[str]]:
        pairs = [(text, domain) for domain in DOMAINS for text in WORLD.documents(domain, n, seed=seed)]
        return [text for text, _ in pairs], [domain for _, domain in pairs]

    texts, labels = corpus(1, 50)
    judge = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)
    assert judge.score(*corpus(2, 50)) > 0.95


def test_an_unknown_domain_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="no such domain in the tiny world; got lwa; did you mean 'law'"):
        WORLD.documents("lwa", 1, seed=0)


@pytest.mark.parametrize("entities", [0, 13, 98])
def test_a_wrong_number_of_entities_is_refused(entities: int) -> None:
    with pytest.raises(SpecError, match="entities"):
        World(entities=entities)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.jsonl")}


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _mentioned(rows: list[dict[str, str]], split: str, domain: str) -> set[str]:
    text = " ".join(row["instruction"] for row in rows if row["split"] == split)
    words = set("".join(c if c.isalpha() else " " for c in text).split())
    return words & set(WORLD.entities_of(domain))
