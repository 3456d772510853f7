"""InsInfo by its identities (methods.md 2e)."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.apportion import apportion
from composer.insinfo import insinfo

TAGS = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "", " "]), max_size=5), min_size=1, max_size=12)
few = settings(max_examples=60, deadline=None)
FOUR = [["A", "B"], ["A"], ["A", "C"], ["A", "B", "C"]]


def test_four_instructions():
    scores = insinfo(FOUR)
    np.testing.assert_allclose(scores, [np.log(2), 0, np.log(2), 2 * np.log(2)], rtol=1e-15)
    np.testing.assert_allclose(scores / scores.sum(), [0.25, 0, 0.25, 0.5], rtol=1e-15)
    assert apportion(scores, 8).tolist() == [2, 0, 2, 4]


@given(tags=TAGS)
@few
def test_it_is_the_formula(tags):
    sets = [{t for t in row if t.strip()} for row in tags]
    frequency = {t: sum(t in s for s in sets) for s in sets for t in s}
    expected = [sum(np.log(len(tags) / frequency[t]) for t in s) for s in sets]
    np.testing.assert_allclose(insinfo(tags), expected, atol=1e-12)


@given(tags=TAGS, data=st.data())
@few
def test_order_and_repetition_change_no_bit(tags, data):
    order = data.draw(st.permutations(range(len(tags))))
    scores = insinfo(tags)
    assert insinfo([tags[i] for i in order]).tobytes() == scores[list(order)].tobytes()
    assert insinfo([row[::-1] + row for row in tags]).tobytes() == scores.tobytes()
    assert insinfo([frozenset(row) for row in tags]).tobytes() == scores.tobytes()


@given(tags=TAGS, cut=st.integers(0, 12))
@few
def test_a_column_in_any_chunks_is_read_as_the_lists_are(tags, cut):
    parts = [pl.Series("tags", part, dtype=pl.List(pl.String)) for part in (tags[:cut], tags[cut:])]
    column = pl.concat(parts, rechunk=False)
    assert insinfo(column).tobytes() == insinfo(tags).tobytes()
    assert insinfo(column[1:]).tobytes() == insinfo(tags[1:]).tobytes()


def test_what_is_missing_in_a_column_is_no_tag_and_its_instruction_still_counts():
    column = pl.Series([["A", None, "B"], None, ["A"], []], dtype=pl.List(pl.String))
    np.testing.assert_allclose(insinfo(column), [np.log(2) + np.log(4), 0, np.log(2), 0], rtol=1e-15)
    assert insinfo([["A", None, "B"], [], ["A"], []]).tobytes() == insinfo(column).tobytes()


def test_a_tag_of_all_adds_nothing_and_a_tag_of_one_adds_ln_n():
    plain = insinfo(FOUR)
    assert (insinfo([[*row, "everywhere"] for row in FOUR]) == plain).all()
    with_own = insinfo([[*FOUR[0], "mine"], *FOUR[1:]])
    np.testing.assert_allclose(with_own - plain, [np.log(4), 0, 0, 0], atol=1e-15)


def test_one_more_tag_never_lowers_a_score_while_frequencies_stay():
    swapped = [["A", "B"], ["A", "C"], ["A"], ["A", "B", "C"]]
    more = [["A", "B", "C"], ["A", "C"], ["A"], ["A", "B"]]  # the tag C moved from the last to the first
    assert insinfo(more)[0] > insinfo(swapped)[0]


@pytest.mark.parametrize("tags", [[], [[]], [[""], [" ", "\t"]], [["x"], ["x"]]])
def test_nothing_said_is_zero(tags):
    scores = insinfo(tags)
    assert scores.dtype == np.float64
    assert scores.tolist() == [0.0] * len(tags)


def test_two_hundred_thousand_instructions_in_a_breath():
    rng = np.random.default_rng(0)
    words = np.array([f"tag {i}" for i in range(1000)])
    scores = insinfo([tuple(row) for row in words[rng.integers(1000, size=(200_000, 4))].tolist()])
    assert scores.shape == (200_000,)
    assert scores.min() > 0
