"""Rows spread over instructions and answers: quotas as in guided sampling, and answers as even as the quotas let them be."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import InputError, SpecError
from composer.select import SELECTORS
from composer.select.spread import spread
from composer.spec import rng
from composer.types import SelectContext

few = settings(max_examples=40, deadline=None)
SPREAD = SELECTORS["spread"]()


def rows(cells):
    """Rows from (instruction, answer) to how many; and their answers."""
    of = [(f"i{i}", answer) for (i, answer), n in cells.items() for _ in range(n)]
    ids = [f"{k:016x}" for k in rng(0, "ids").permutation(10_000)[: len(of)]]
    frame = pl.DataFrame({"sample_id": ids, "instruction_id": [i for i, _ in of]})
    return frame, pl.DataFrame({"sample_id": ids, "answer": [a for _, a in of]}, schema_overrides={"answer": pl.UInt32})


def picked(cells, n, *, seed=7, selector=SPREAD, **more):
    frame, answers = rows(cells)
    first = selector.order(frame, context=SelectContext(answers=answers, **more), n=n, seed=seed)[:n]
    chosen = frame[first].join(answers, on="sample_id")
    return {
        column: np.unique(chosen[column].to_numpy(), return_counts=True)[1].tolist() for column in ("instruction_id", "answer")
    }


def test_every_answer_comes_before_any_comes_twice():
    cells = {(i, a): 6 for i in range(4) for a in range(8)}
    assert picked(cells, 8) == {"instruction_id": [2, 2, 2, 2], "answer": [1] * 8}
    assert sorted(picked(cells, 20)["answer"]) == [2] * 4 + [3] * 4


def test_a_frequent_answer_gives_no_more_than_a_rare_one_while_that_lasts():
    assert picked({(0, 0): 90, (0, 1): 5, (0, 2): 5}, 12)["answer"] == [4, 4, 4]
    assert picked({(0, 0): 90, (0, 1): 2, (0, 2): 5}, 13)["answer"] == [6, 2, 5]


def test_an_answer_counts_whatever_the_instruction_that_gave_it():
    # the first instruction knows one answer only, so the second gives the other
    assert picked({(0, 0): 10, (1, 0): 10, (1, 1): 10}, 8) == {"instruction_id": [4, 4], "answer": [4, 4]}


def test_scores_of_instructions_set_the_quotas_as_in_guided_sampling():
    scores = pl.DataFrame({"instruction_id": ["i0", "i1"], "phase": [0, 0], "score": ["x", "x"], "value": [3.0, 1.0]})
    cells = {(i, a): 8 for i in range(2) for a in range(2)}
    made = picked(cells, 8, selector=SELECTORS["spread"](score="x"), instruction_scores=scores)
    assert made == {"instruction_id": [6, 2], "answer": [4, 4]}


def test_rows_of_different_answers_are_drawn_at_random():
    frame, answers = rows({(0, a): 1 for a in range(5)})
    context = SelectContext(answers=answers)
    first = [SPREAD.order(frame, context=context, n=1, seed=seed)[0] for seed in range(400)]
    assert np.bincount(first, minlength=5).min() > 50


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=60), st.data())
@few
def test_no_answer_lags_behind_while_its_instructions_could_give_it(pairs, data):
    instruction = np.array(sorted(i for i, _ in pairs))
    instruction = np.unique(instruction, return_inverse=True)[1]
    answer = np.array([a for _, a in pairs])
    size = np.bincount(instruction)
    quota = np.array([data.draw(st.integers(0, int(n))) for n in size])
    chosen = spread(instruction, answer, quota, rng(3, "test"))
    assert len(set(chosen)) == len(chosen) == quota.sum()
    assert np.bincount(instruction[chosen], minlength=size.size).tolist() == quota.tolist()
    if size.size == 1:  # with one instruction the answers are levelled: nobody above the least of those that have rows left
        taken, there = np.bincount(answer[chosen], minlength=5), np.bincount(answer, minlength=5)
        open_ = (taken < there) & (there > 0)
        if open_.any():
            assert taken.max() <= taken[open_].min() + 1


def test_without_answers_it_says_what_it_needs():
    with pytest.raises(SpecError, match=r"select spread: needs answers.*give compose the answers of samples"):
        SPREAD.order(rows({(0, 0): 2})[0], context=SelectContext(), n=1, seed=1)


def test_a_row_without_an_answer_is_refused():
    frame, answers = rows({(0, 0): 3})
    with pytest.raises(InputError, match="sample_id without answer; expected one row for each; got none for 1 of 3"):
        SPREAD.order(frame, context=SelectContext(answers=answers.head(2)), n=1, seed=1)
