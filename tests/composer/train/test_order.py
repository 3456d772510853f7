"""The order that follows moving weights: every row once, shares within a row, the same again from a state or from a history."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import FaultError, InputError
from composer.train.batches import Row
from composer.train.order import Planned
from composer.train.reweight import REWEIGHTING, Look
from tests.composer.train.drawing import (
    BATCHES,
    ENCODING,
    SIZES,
    everything,
    few,
    ids,
    most_steps,
    rows_of,
    weighted,
    weights_at,
)


@given(sizes=SIZES, size=st.integers(1, 9), batches=BATCHES, seed=st.integers(0, 99))
@few
def test_every_row_comes_once_and_a_domain_keeps_its_order(sizes: Any, size: int, batches: Any, seed: int) -> None:
    supply = rows_of(sizes)
    n = most_steps(supply, size=size, batches=batches)
    order = weighted(supply, weights=np.ones(len(supply)), size=size, n_steps=n, batches=batches)
    steps = everything(order, k=len(supply), seed=seed)
    taken = [name for step in steps for name in step]
    assert sorted(taken) == sorted(row.sample_id for of_domain in supply for row, _ in of_domain)
    assert all(1 <= len(step) <= size for step in steps)
    for k, of_domain in enumerate(supply):
        assert [name for name in taken if name.startswith(f"{k}:")] == [row.sample_id for row, _ in of_domain]
    if batches == "domain":
        assert all(len({name.split(":")[0] for name in step}) == 1 for step in steps)
    else:
        assert all(len(step) == size for step in steps[:-1])
    assert sorted(k for _, k in order.exhausted) == list(range(len(supply)))


@given(k=st.integers(2, 6), seed=st.integers(0, 999), moving=st.booleans(), batches=BATCHES)
@few
def test_shares_follow_the_weights_within_a_row(k: int, seed: int, moving: bool, batches: Any) -> None:
    dice, size, n = np.random.default_rng(seed), 4, 60
    supply = rows_of(dice.integers(1, 300, (k, size * n)).tolist())
    of = {row.sample_id: (domain, amount) for domain, rows in enumerate(supply) for row, amount in rows}
    weights = np.array(weights_at(0, k, seed=seed))
    order = weighted(supply, weights=weights, size=size, n_steps=n, batches=batches)
    owed, got, largest, harmonic = (
        np.zeros(k),
        np.zeros(k),
        300 * (size if batches == "domain" else 1),
        sum(1 / np.arange(1, k)),
    )
    for step in range(n):
        if moving:
            weights = np.array(weights_at(step, k, seed=seed))
            order.set_weights(weights)
        for row in order.take():
            domain, amount = of[row.sample_id]
            got[domain] += amount
            owed += weights / weights.sum() * amount
            if batches == "mixed":
                assert (got - owed).max() <= largest
                assert (owed - got).max() <= largest * harmonic + 1e-6
        assert (got - owed).max() <= largest
        assert (owed - got).max() <= largest * harmonic + 1e-6


def test_a_tiny_weight_gets_its_share_in_the_long_run_though_weights_are_set_at_every_step() -> None:
    supply = rows_of([[100] * 20_000, [100] * 50])
    order = weighted(supply, weights=[0.999, 0.001], size=4, n_steps=5_000)
    count: Counter[int] = Counter()
    for step in range(order.n_steps):
        order.set_weights([0.999, 0.001] if step % 2 else [0.9985, 0.0015])
        count.update(row.domain for row in order.take())
    assert count[1] == pytest.approx(0.00125 * 20_000, abs=1)


def test_equal_weights_and_sizes_take_turns() -> None:
    order = weighted(rows_of([[5] * 4] * 3), weights=[2, 2, 2], size=3, n_steps=4)
    assert everything(order, k=3) == [
        ["0:0", "1:0", "2:0"],
        ["0:1", "1:1", "2:1"],
        ["0:2", "1:2", "2:2"],
        ["0:3", "1:3", "2:3"],
    ]


def test_of_equal_credits_the_larger_weight_is_first() -> None:
    assert everything(weighted(rows_of([[5], [5]]), weights=[1, 2], size=1, n_steps=1), k=2) == [["1:0"]]


def test_sizes_count_and_not_rows() -> None:
    order = weighted(rows_of([[30] * 100, [10] * 300]), weights=[0.5, 0.5], size=4, n_steps=90)
    count = Counter(row.domain for _ in range(90) for row in order.take())
    assert count == {0: 90, 1: 270}


def test_a_dry_domain_leaves_its_weight_to_the_others_in_proportion() -> None:
    order = weighted(rows_of([[10] * 2, [10] * 300, [10] * 300]), weights=[0.6, 0.3, 0.1], size=4, n_steps=60)
    first = order.take() + order.take()
    assert order.exhausted == ((0, 0),)
    assert order.weights == (0.6, 0.3, 0.1)  # those that were set stay what they were
    late = Counter(row.domain for _ in range(50) for row in order.take())
    assert len(first) == 8
    assert late[1] == pytest.approx(150, abs=2)
    assert late[2] == pytest.approx(50, abs=2)


def test_a_domain_without_any_row_is_told_from_the_start() -> None:
    order = weighted(rows_of([[], [1, 1, 1]]), weights=[0.9, 0.1], size=2, n_steps=2)
    assert order.exhausted == ((0, 0),)
    assert everything(order, k=2) == [["1:0", "1:1"], ["1:2"]]
    assert order.exhausted == ((0, 0), (1, 1))


def test_a_domain_of_weight_zero_is_not_drawn_from_and_keeps_what_it_is_owed() -> None:
    order = weighted(rows_of([[10] * 50, [10] * 50]), weights=[0.5, 0.5], size=1, n_steps=40)
    assert order.take()[0].domain == 0
    order.set_weights([1, 0])
    assert {order.take()[0].domain for _ in range(10)} == {0}
    assert order.state()["credit"] == [-5 * 2**40, 5 * 2**40]
    order.set_weights([0.5, 0.5])
    assert [order.take()[0].domain for _ in range(3)] == [1, 0, 1]


@given(sizes=SIZES, size=st.integers(1, 5), batches=BATCHES, seed=st.integers(0, 99), data=st.data())
@few
def test_a_state_goes_on_as_if_there_had_been_no_stop(sizes: Any, size: int, batches: Any, seed: int, data: Any) -> None:
    supply = rows_of(sizes)
    k, n = len(supply), most_steps(supply, size=size, batches=batches)
    made = [weighted(supply, weights=np.ones(k), size=size, n_steps=n, batches=batches) for _ in range(2)]
    whole = everything(made[0], k=k, seed=seed)
    stop = data.draw(st.integers(0, n))
    for step in range(stop):
        made[1].set_weights(weights_at(step, k, seed=seed))
        made[1].take()
    state = json.loads(json.dumps(made[1].state()))
    again = weighted(supply, weights=[1.0] * k, size=size, n_steps=n, batches=batches)
    again.restore(state)
    assert again.state() == made[1].state() == state
    rest = []
    for step in range(stop, n):
        again.set_weights(weights_at(step, k, seed=seed))
        rest.append(again.take())
    assert whole[stop:] == ids(rest)
    assert again.exhausted == made[0].exhausted


def test_a_state_taken_out_does_not_move_with_the_order() -> None:
    order = weighted(rows_of([[3, 4], [5]]), weights=[1, 1], size=1, n_steps=3)
    before = order.state()
    kept = json.dumps(before)
    order.take()
    assert json.dumps(before) == kept
    order.restore(before)
    order.take()
    assert json.dumps(before) == kept


def driven(law: Any, *, n: int, history: list[tuple[int, dict[str, float]]] | None = None) -> list[list[str]]:
    """Return the rows of a run in which a law moves the weights, with losses that are a play of their own."""
    domains, dice = ("a", "b", "c"), np.random.default_rng(3)
    losses = 1 + dice.random((n + 1, 3)) * np.linspace(1, 0.2, n + 1)[:, None]
    supply = rows_of(dice.integers(20, 200, (3, 8 * n)).tolist())
    weights = law.start([0.5, 0.3, 0.2], domains)
    order = weighted(supply, weights=weights, size=8, n_steps=n)
    previous, memory, out = None, {}, []
    for step in range(n):
        if law.due(step):
            move = law.move(Look(
                step=step, domains=domains, weights=weights, loss=losses[step], previous=previous,
                reference=np.full(3, 0.9), train_loss=losses[step], memory=json.loads(json.dumps(memory)),
            ))  # fmt: skip
            weights, previous, memory = move.weights, losses[step], move.memory
            order.set_weights(weights)
            if history is not None:
                history.append((step, dict(zip(domains, weights.tolist(), strict=True))))
        out.append(order.take())
    return ids(out)


@pytest.mark.parametrize("word", ["potential", "expansion", "bandit", "excess"])
@pytest.mark.parametrize("every", [1, 7])
def test_the_history_of_weights_as_levels_gives_the_same_order(word: str, every: int) -> None:
    history: list[tuple[int, dict[str, float]]] = []
    law = REWEIGHTING[word](every=every, **({"target": "b"} if word == "expansion" else {}))
    rows = driven(law, n=60, history=history)
    assert len(history) == -(-60 // every)
    assert any(a[1] != b[1] for a, b in pairwise(history))
    levels = REWEIGHTING["levels"](levels=json.loads(json.dumps(history)))
    assert driven(levels, n=60) == rows
    assert driven(law, n=60) == rows


@given(n=st.integers(0, 9), stop=st.integers(0, 9))
@few
def test_planned_steps_come_as_planned_and_go_on_from_a_state(n: int, stop: int) -> None:
    plan = [[Row.of(f"{i}", 0, ENCODING)] for i in range(n)]
    order, again = Planned(plan), Planned(plan)
    assert order.n_steps == n
    first = [order.take() for _ in range(min(stop, n))]
    again.restore(json.loads(json.dumps(order.state())))
    assert first + [again.take() for _ in range(n - len(first))] == plan
    with pytest.raises(FaultError, match=f"all steps are taken; expected {n} steps; got step {n}"):
        again.take()


@pytest.mark.parametrize(("batches", "most"), [("mixed", 4), ("domain", 5)])
def test_as_many_steps_as_there_are_rows_for_and_no_more(batches: Any, most: int) -> None:
    supply = rows_of([[1] * 4, [1] * 7])
    order = weighted(supply, weights=[1, 1], size=3, n_steps=most, batches=batches)
    assert sum(map(len, everything(order, k=2))) == 11
    with pytest.raises(InputError, match=f"more steps than there are rows for; expected at most {most}; got 6; raise budget"):
        weighted(supply, weights=[1, 1], size=3, n_steps=6, batches=batches)


@pytest.mark.parametrize("weights", [[0, 0], [1], [1, -1], [1, float("nan")], [1, float("inf")]])
def test_weights_that_are_no_shares_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match="weights that are no shares; expected 2 finite numbers"):
        weighted(rows_of([[1], [1]]), weights=weights, size=1, n_steps=1)


def test_rows_of_weight_zero_alone_are_an_error_with_a_way_out() -> None:
    order = weighted(rows_of([[1], [1]]), weights=[1, 0], size=1, n_steps=2)
    order.take()
    with pytest.raises(InputError, match="step 1: no rows are left of the domains that have weight; give a weight"):
        order.take()
    order.set_weights([1, 1])
    assert ids([order.take()]) == [["1:0"]]
    with pytest.raises(FaultError, match="all steps are taken"):
        order.take()


def test_a_step_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="size: a step without rows; expected 1 or more; got 0"):
        weighted(rows_of([[1]]), weights=[1], size=0, n_steps=0)


@pytest.mark.parametrize("change", [{"at": [9, 0]}, {"at": [1]}, {"taken": 7}])
def test_the_state_of_another_order_is_refused(change: dict[str, Any]) -> None:
    order = weighted(rows_of([[1, 1], [1]]), weights=[1, 1], size=1, n_steps=3)
    with pytest.raises(FaultError, match="order: the state of another order; expected"):
        order.restore({**order.state(), **change})
    with pytest.raises(FaultError, match="order: the state of another order; expected 0 to 0 steps; got 7"):
        Planned([]).restore({"taken": 7})
