"""Localised balancing: its zero points, the numbers one can work out by hand, and what it does not depend on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer.train.moe.balance import balance, importance, loads

TYPES = torch.tensor([0, 0, 1, 1])
ROWS = torch.tensor([0, 1])


def counts(delta: float, **fields: object) -> Tensor:
    return importance(ROWS, TYPES, delta=delta, **fields)  # type: ignore[arg-type]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).softmax(-1)


@pytest.mark.parametrize("form", ["var_over_mean", "cv2"])
def test_an_even_load_without_a_tilt_costs_nothing(form: str) -> None:
    real = torch.tensor([[True] * 10, [True] * 3 + [False] * 7])  # also where lengths differ
    load = loads(torch.full((2, 10, 4), 0.25), real)
    assert float(balance(load, counts(0.0), form=form)) == pytest.approx(0, abs=1e-12)  # type: ignore[arg-type]


def test_an_even_load_under_a_tilt() -> None:
    """Ten tokens, summed: Var / Mean 0.025; as means a tenth of it. The unbiased variance is 8/7 of the population's."""
    even = torch.full((2, 4), 0.25)
    assert 10 * float(balance(even, counts(0.1))) == pytest.approx(0.025, rel=1e-5)
    assert float(balance(even, counts(0.1), form="cv2")) == pytest.approx(0.01, rel=1e-5)
    assert 8 / 7 * float(balance(even, counts(0.1), form="cv2")) == pytest.approx(0.0114286, rel=1e-5)


def test_all_load_on_one_expert() -> None:
    one = torch.tensor([[1.0, 0, 0, 0]] * 2)
    assert 10 * float(balance(one, counts(0.0))) == pytest.approx(7.5)
    assert float(balance(one, counts(0.0), form="cv2")) == pytest.approx(3)
    assert 8 / 7 * float(balance(one, counts(0.0), form="cv2")) == pytest.approx(3.428571)


def test_it_never_exceeds_the_number_of_experts_less_one() -> None:
    for sharpness in (0.1, 1, 10, 100):
        load = loads((drawn(2, 5, 4).log() * sharpness).softmax(-1), torch.ones(2, 5, dtype=torch.bool))
        assert float(balance(load, counts(0.0), form="cv2")) <= 3 + 1e-6


@pytest.mark.parametrize("form", ["var_over_mean", "cv2"])
def test_at_the_minimum_the_own_group_has_less(form: str) -> None:
    load = torch.tensor([[0.225, 0.225, 0.275, 0.275], [0.275, 0.275, 0.225, 0.225]])
    torch.testing.assert_close(10 * load * counts(0.1), torch.full((2, 4), 2.475))
    assert float(balance(load, counts(0.1), form=form)) == pytest.approx(0, abs=1e-12)  # type: ignore[arg-type]
    assert float(balance(load.flip(1), counts(0.1, own_group="more"), form=form)) == pytest.approx(0, abs=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize(("own_group", "share"), [("less", 0.4), ("more", 0.6)])
def test_descent_comes_to_the_minimum(own_group: str, share: float) -> None:
    """The own group then has (1 - delta) / 2 of a row's load, or (1 + delta) / 2."""
    scores = drawn(2, 4).requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.1)
    for _ in range(120):
        optimizer.zero_grad()
        balance(scores.softmax(-1), counts(0.2, own_group=own_group)).backward()
        optimizer.step()
    own = (scores.softmax(-1) * (ROWS[:, None] == TYPES)).sum(-1)
    torch.testing.assert_close(own, torch.full((2,), share), atol=2e-3, rtol=0)


def test_it_does_not_depend_on_the_names_of_types_or_the_order_of_rows() -> None:
    load, order = drawn(5, 4), torch.tensor([3, 1, 4, 0, 2])
    rows = torch.tensor([0, 1, 1, 0, 1])
    found = balance(load, importance(rows, TYPES, delta=0.3))
    torch.testing.assert_close(found, balance(load, importance(1 - rows, 1 - TYPES, delta=0.3)))
    torch.testing.assert_close(found, balance(load[order], importance(rows[order], TYPES, delta=0.3)))
    assert not torch.isclose(found, balance(load, importance(1 - rows, TYPES, delta=0.3)))


def test_loads_sum_to_one_and_do_not_see_padding() -> None:
    shares, real = drawn(3, 2, 6, 4), torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    load = loads(shares, real)
    torch.testing.assert_close(load.sum(-1), torch.ones(3, 2))
    torch.testing.assert_close(load[:, 1], shares[:, 1, :2].mean(1))
    torch.testing.assert_close(load[:, 0], shares[:, 0].mean(1))


def test_depth_does_not_change_its_weight() -> None:
    load = drawn(2, 4)
    torch.testing.assert_close(balance(load.expand(7, 2, 4), counts(0.1)), balance(load, counts(0.1)))
    each = torch.stack([load, load.flip(1)])
    torch.testing.assert_close(balance(each, counts(0.4)), sum(balance(one, counts(0.4)) for one in each) / 2)


def test_a_tilt_of_nearly_one_stays_finite() -> None:
    load = torch.tensor([[0.0, 0, 0.5, 0.5], [0.5, 0.5, 0, 0]], requires_grad=True)
    value = balance(load, importance(ROWS, TYPES, delta=0.999999), form="cv2")
    value.backward()
    assert value.isfinite()
    assert load.grad is not None
    assert load.grad.isfinite().all()
