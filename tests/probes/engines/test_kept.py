"""What is kept, or given by others, is what the session says, to the last bit; nothing is asked for twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import FaultError, ModelError
from composer.types import ModelRef
from probes.engines import ENGINES, Completion, Engine, Session, TokenScores
from probes.engines.hf import Hf
from probes.engines.kept import ASKED, Elsewhere, Kept, give
from probes.engines.requests import Request, answers, as_table, from_table
from tests.probes.knowledge.reading import Reading, halves

PROMPTS = [[5 + i, 9, 7 + i * i % 40] for i in range(6)]
REQUESTS = [
    Request("complete", PROMPTS, {"max_new_tokens": 7, "temperature": 1.0, "seed": 3}),
    Request("complete", PROMPTS[:2], {"max_new_tokens": 7, "temperature": 1.0, "seed": 4}),
    Request("score", PROMPTS),
    Request("choose", PROMPTS, {"choices": [4, 8]}),
    Request("n_positions"),
]


def same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Return whether two answers are equal bit by bit."""
    if len(one) and isinstance(one[0], TokenScores):
        return all((a.logprob == b.logprob).all() and (a.top == b.top).all() for a, b in zip(one, other, strict=True))
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else list(one) == list(other)


def elsewhere(model: Path, folder: Path, *, tickets: int = 1) -> tuple[Elsewhere, list[str]]:
    """Return a session whose answers are given in so many tickets, the last names first, and the names that were asked for."""
    asked: list[str] = []

    def spread(names: Sequence[str]) -> None:
        asked.extend(names)
        for i in range(tickets):
            give(folder, names[i::tickets][::-1], engine=Hf(), model=ModelRef(path=str(model)))

    return Elsewhere(Hf(), ModelRef(path=str(model)), folder, spread), asked


@pytest.mark.parametrize("tickets", [1, 2, 4])
def test_answers_from_elsewhere_are_those_of_the_session(
    tickets: int, session: Session, tiny_model: Path, tmp_path: Path
) -> None:
    there, asked = elsewhere(tiny_model, tmp_path, tickets=tickets)
    expected = list(answers(session, REQUESTS))
    for found in (list(answers(Kept(session, tmp_path / "kept"), REQUESTS)), list(answers(there, REQUESTS))):
        assert all(map(same, found, expected))
    assert len(set(asked)) == len(asked) == len(REQUESTS)
    assert there.n_positions == 256
    assert same(there.choose(PROMPTS, [4, 8]), expected[3])
    assert same(there.complete(PROMPTS, max_new_tokens=7, seed=3), expected[0])
    assert same(there.score(PROMPTS), expected[2])
    assert len(asked) == len(REQUESTS), "what is there is not asked for again"
    assert there.tokenizer.get_vocab() == session.tokenizer.get_vocab()


def test_what_one_kept_another_finds(session: Session, tiny_model: Path, tmp_path: Path) -> None:
    list(answers(Kept(session, tmp_path), REQUESTS[:3]))
    there, asked = elsewhere(tiny_model, tmp_path)
    list(answers(there, REQUESTS))
    assert len(asked) == len(REQUESTS) - 3
    heard: list[float] = []
    list(answers(there, REQUESTS, heard=lambda _, seconds: heard.append(seconds)))
    assert heard == [], "only what is made now is told of"


def test_other_questions_and_models_have_answers_of_their_own(tmp_path: Path) -> None:
    session = Reading(halves)
    for of in ("", "other"):
        kept = Kept(session, tmp_path, of=of)
        for rows in (PROMPTS, PROMPTS[:3], PROMPTS):
            kept.score(rows)
    assert session.calls == 4
    assert len(list((tmp_path / ASKED).iterdir())) == 4


def test_what_is_wrong_is_not_kept(tmp_path: Path) -> None:
    class Losing(Reading):
        def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
            return super().score(sequences)[1:]

    with pytest.raises(FaultError, match="score: the engine lost rows; expected 6; got 5"):
        Kept(Losing(halves), tmp_path).score(PROMPTS)
    with pytest.raises(ModelError, match="holds a text for impossible; expected finite log-probabilities"):
        Kept(Reading(lambda _, __: 0.0), tmp_path).score(PROMPTS)
    assert list((tmp_path / ASKED).iterdir()) == []
    assert len(Kept(Reading(halves), tmp_path).score(PROMPTS)) == 6


class Halves(Engine):
    """An engine under which every token costs a bit; it counts how often it is opened."""

    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "for tests"
    opened: ClassVar[list[str]] = []
    name: Literal["halves"] = "halves"

    @contextmanager
    def open(self, model: ModelRef) -> Iterator[Any]:
        self.opened.append(model.path)
        yield Reading(halves)


def test_a_model_beside_is_asked_through_its_own_engine(
    session: Session, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "halves", Halves)
    monkeypatch.setattr(Halves, "opened", [])
    there, asked = elsewhere(tiny_model, tmp_path)
    for kept in (there, Kept(session, tmp_path)):
        with kept.beside(Halves(), ModelRef(path="judge")) as judge:
            assert judge.score(PROMPTS)[0].logprob == pytest.approx(np.log([0.5, 0.5]))
    assert Halves.opened == ["judge", "judge"]
    assert len(asked) == 1
    give(tmp_path, asked, engine=Hf(), model=ModelRef(path="nowhere"))  # all of it is there: no model is opened


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 2**32 - 1), min_size=1).map(tuple), st.text(), st.booleans())))
def test_a_completion_comes_back_from_its_table_as_it_was(rows: list[tuple[tuple[int, ...], str, bool]]) -> None:
    made = [Completion(*row) for row in rows]
    assert from_table("complete", as_table("complete", made)) == made
