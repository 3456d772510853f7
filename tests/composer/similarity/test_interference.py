"""Interference: between zero and one, blind to order, one where a new row contradicts an old one, monotone in what is near."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from composer.errors import InputError
from composer.similarity.interference import interference, some_rows
from composer.spec import rng


def directions(label, n, d):
    rows = rng(5, "interference", label).normal(size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


OLD = directions("old prompts", 40, 6), directions("old answers", 40, 3)
NEW = directions("new prompts", 30, 6), directions("new answers", 30, 3)


def test_it_lies_between_zero_and_one_and_rises_with_what_counts_as_near():
    found = [interference(OLD, NEW, near=near) for near in (0.1, 0.4, 1.0, 2.0)]
    for one, other in pairwise(found):
        assert (one <= other).all()
        assert one.min() >= 0
        assert other.max() <= 1
    assert found[0].mean() < found[-1].mean()


def test_the_order_of_rows_means_nothing():
    turn, other = rng(1, "turn").permutation(40), rng(2, "turn").permutation(30)
    turned = interference((OLD[0][turn], OLD[1][turn]), (NEW[0][other], NEW[1][other]), near=0.8)
    np.testing.assert_allclose(turned, interference(OLD, NEW, near=0.8)[turn], atol=1e-12)


def test_the_same_rows_do_not_interfere_and_turned_answers_do():
    prompts = np.eye(4, dtype=np.float32)
    assert interference((prompts, prompts), (prompts, prompts), near=0.5).tolist() == [0, 0, 0, 0]
    assert interference((prompts, prompts), (prompts, prompts[[1, 0, 2, 3]]), near=0.5).tolist() == [1, 1, 0, 0]


def test_half_as_near_counts_half():
    old, answer = np.array([[1.0, 0.0]], dtype=np.float32), np.array([[1.0, 0.0]], dtype=np.float32)
    new = np.array([[0.75, np.sqrt(1 - 0.75**2)]], dtype=np.float32)
    assert interference((old, answer), (new, np.array([[0.0, 1.0]], dtype=np.float32)), near=0.5)[0] == pytest.approx(
        0.5, abs=1e-6
    )


def test_blocks_change_nothing(monkeypatch):
    whole = interference(OLD, NEW, near=0.8)
    monkeypatch.setattr("composer.similarity.interference._BLOCK", 7)
    np.testing.assert_allclose(interference(OLD, NEW, near=0.8), whole, atol=1e-12)


def test_without_new_rows_nothing_interferes():
    none = np.zeros((0, 6), dtype=np.float32), np.zeros((0, 3), dtype=np.float32)
    assert not interference(OLD, none, near=0.5).any()


@pytest.mark.parametrize(
    ("old", "new", "near", "match"),
    [
        (OLD, NEW, 0, "a distance within which rows are near; expected above 0; got 0"),
        ((OLD[0][:3], OLD[1]), NEW, 1, "as many old prompts as answers; expected 3; got 3 and 40"),
        (OLD, (NEW[0], NEW[1][:2]), 1, "as many new prompts as answers"),
        (OLD, (NEW[1], NEW[1]), 1, "old and new rows of different spaces"),
    ],
)
def test_what_cannot_be_compared_is_refused(old, new, near, match):
    with pytest.raises(InputError, match=match):
        interference(old, new, near=near)


def rows(sizes):
    instruction = [f"{d}{i}" for d, of in sizes.items() for i, n in enumerate(of) for _ in range(n)]
    ids = [f"{k:04x}" for k in rng(3, "ids").permutation(60_000)[: len(instruction)]]
    return pl.DataFrame({"sample_id": ids, "domain": [each[0] for each in instruction], "instruction_id": instruction})


def test_some_rows_are_spread_over_the_instructions_of_every_domain():
    frame = rows({"a": [50, 50, 2], "b": [3]})
    some = some_rows(frame, n=12, seed=1)
    counts = dict(some.group_by("instruction_id").len().iter_rows())
    assert counts == {"a0": 5, "a1": 5, "a2": 2, "b0": 3}
    assert some["sample_id"].to_list() == some_rows(frame.reverse(), n=12, seed=1)["sample_id"].to_list()
    assert some["sample_id"].to_list() != some_rows(frame, n=12, seed=2)["sample_id"].to_list()
    assert some_rows(frame, n=1000, seed=1).height == frame.height
