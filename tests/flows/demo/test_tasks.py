"""The eight tasks: disjoint splits, answers that their tables give, and a pair that conflicts."""

from __future__ import annotations

from collections import Counter

import pytest

from flows.demo.grammar import OPPOSITES
from flows.demo.tasks import DEMO_TASKS, N_TEST, N_TRAIN, TASKS, tasks
from flows.demo.world import DOMAINS, World

WORLD = World()
ROWS = tasks(WORLD, seed=0)


def test_there_are_eight_and_the_demo_takes_five_with_the_conflicting_pair() -> None:
    assert len(TASKS) == 8
    assert len(DEMO_TASKS) == 5
    assert {"first", "last"} <= set(DEMO_TASKS) <= set(TASKS)


@pytest.mark.parametrize("entities", [12, 32, 96])
def test_rows_are_the_same_for_the_same_seed_and_complete_in_any_world(entities: int) -> None:
    world = World(entities=entities)
    assert tasks(world, seed=1) == tasks(world, seed=1) != tasks(world, seed=2)
    for name, rows in tasks(world, seed=1).items():
        assert Counter(row["split"] for row in rows) == {"train": N_TRAIN, "test": N_TEST}
        assert {row["task"] for row in rows} == {name}


@pytest.mark.parametrize("name", TASKS)
def test_no_pair_of_instruction_and_input_occurs_twice(name: str) -> None:
    pairs = Counter((row["instruction"], row["input"]) for row in ROWS[name])
    assert max(pairs.values()) == 1


@pytest.mark.parametrize("name", TASKS)
def test_inputs_of_the_test_rows_are_unseen_where_the_task_says_so(name: str) -> None:
    train, test = ({row["input"] for row in ROWS[name] if row["split"] == split} for split in ("train", "test"))
    assert (not train & test) is TASKS[name].unseen_inputs


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_eight_wordings_and_uses_them_all(name: str) -> None:
    assert len(set(TASKS[name].wordings)) == 8
    used = Counter(row["instruction"] for row in ROWS[name] if row["split"] == "train")
    assert set(used) == set(TASKS[name].wordings)
    assert min(used.values()) >= 20


def test_no_wording_belongs_to_two_tasks() -> None:
    wordings = [wording for task in TASKS.values() for wording in task.wordings]
    assert len(wordings) == len(set(wordings))


@pytest.mark.parametrize("name", TASKS)
def test_an_input_has_one_answer_whatever_the_seed(name: str) -> None:
    answers: dict[str, set[str]] = {}
    for row in (*ROWS[name], *tasks(WORLD, seed=9)[name]):
        answers.setdefault(row["input"], set()).add(row["output"])
    assert {len(each) for each in answers.values()} == {1}


def test_the_answers_are_right() -> None:
    domain_of = {entity: domain for domain in DOMAINS for entity in WORLD.entities_of(domain)}
    opposite = {**dict(OPPOSITES), **{b: a for a, b in OPPOSITES}}
    for row in ROWS["category"]:
        assert row["output"] == domain_of[row["input"].removeprefix("about ")]
    for row in ROWS["opposite"]:
        assert row["output"] == opposite[row["input"].split()[0]]
    for row in ROWS["first"]:
        assert row["output"] == row["input"].split(", ")[0]
    for row in ROWS["last"]:
        assert row["output"] == row["input"].split(", ")[-1]
    parity = {row["input"].split()[0]: row["output"] for row in ROWS["parity"]}
    assert (parity["one"], parity["two"], parity["eleven"], parity["twelve"]) == ("odd", "even", "odd", "even")
    following = {row["input"]: row["output"] for row in (*ROWS["next"], *tasks(WORLD, seed=4)["next"])}
    assert (following["Sunday"], following["December"], following["two, three"]) == ("Monday", "January", "four")


def test_translations_are_one_to_one() -> None:
    table = {(row["input"].split()[0], row["output"]) for row in ROWS["translate"]}
    assert len(table) == len({quality for quality, _ in table}) == len({oru for _, oru in table}) == 2 * len(OPPOSITES)


def test_first_and_last_conflict_on_the_same_input() -> None:
    first, last = ({row["input"]: row["output"] for row in ROWS[name]} for name in ("first", "last"))
    shared = first.keys() & last.keys()
    assert shared
    assert all(first[given] != last[given] for given in shared)
