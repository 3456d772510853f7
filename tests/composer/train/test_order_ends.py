"""How much is drawn in all: a number of rows, or an amount of the mixture's unit, whatever the weights do."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.composer.train.drawing import BATCHES, SIZES, everything, few, ids, rows_of, weighted, weights_at


@given(n_rows=st.integers(1, 60), size=st.integers(1, 9), batches=BATCHES, stop=st.integers(0, 60))
@few
def test_no_more_rows_are_drawn_than_are_wanted(n_rows: int, size: int, batches: Any, stop: int) -> None:
    supply, n = rows_of([[5] * 40, [9] * 30, [2] * 50]), -(-n_rows // size)
    given: dict[str, Any] = {"weights": [1, 2, 3], "size": size, "n_steps": n, "n_rows": n_rows, "batches": batches}
    order, again = weighted(supply, **given), weighted(supply, **given)
    steps = []
    for step in range(n):
        if step == stop:
            again.restore(json.loads(json.dumps(order.state())))
            order = again
        steps.append(order.take())
    assert [len(step) for step in steps[:-1]] == [size] * (n - 1) or batches == "domain"
    taken = sum(map(len, steps))
    assert taken == n_rows if batches == "mixed" else n_rows >= taken >= n
    assert ids(steps) == everything(weighted(supply, **given), k=3)


@given(sizes=SIZES, steps=st.integers(1, 12), part=st.floats(0.05, 1), seed=st.integers(0, 99), stop=st.integers(0, 12))
@few
def test_an_amount_is_met_to_within_a_row(sizes: Any, steps: int, part: float, seed: int, stop: int) -> None:
    supply = rows_of(sizes)
    of = {row.sample_id: n for of_domain in supply for row, n in of_domain}
    steps, amount = min(steps, len(of)), max(1, int(part * sum(of.values())))
    given: dict[str, Any] = {"weights": np.ones(len(supply)), "size": -(-len(of) // steps), "n_steps": steps, "amount": amount}
    order, again, taken = weighted(supply, **given), weighted(supply, **given), list[str]()
    drawn = 0
    for step in range(steps):
        order.set_weights(weights_at(step, len(supply), seed=seed))
        if step == stop:
            again.restore(json.loads(json.dumps(order.state())))
            order = again
        own = [row.sample_id for row in order.take()]
        drawn += sum(of[name] for name in own)
        due = amount * (step + 1) / steps
        assert drawn >= due or len(of) - len(taken) - len(own) == steps - step - 1
        assert len(own) == 1 or drawn - of[own[-1]] < due
        taken += own
    assert len(set(taken)) == len(taken)
