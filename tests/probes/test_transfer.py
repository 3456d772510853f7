"""Backward and forward transfer follow from the score matrix; a task that was not measured does not count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.retention import Stage, Summary, retention
from probes.transfer import Transfer, backward_transfer, forward_transfer

few = settings(max_examples=40, deadline=None)

BASE = [0.1, 0.2, 0.0]
SCORES = [BASE, [0.8, 0.3, 0.1], [0.5, 0.9, 0.4], [0.2, 0.7, 0.6]]
CURRENT = [[], [0], [1], [2]]


def matrices(n_stages: int, n_tasks: int) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(st.lists(st.floats(0, 1), min_size=n_tasks, max_size=n_tasks), min_size=n_stages, max_size=n_stages)


def test_by_hand() -> None:
    back, forth = backward_transfer(SCORES, CURRENT), forward_transfer(SCORES, CURRENT)
    assert back == (pytest.approx(((0.2 - 0.8) + (0.7 - 0.9)) / 2), 2)
    assert forth == (pytest.approx(((0.3 - 0.2) + (0.4 - 0.0)) / 2), 2)


def test_groups_count_task_by_task() -> None:
    scores = [[0.0, 0.0, 0.1], [0.6, 0.4, 0.3], [0.5, 0.1, 0.9]]
    assert backward_transfer(scores, [[], [0, 1], [2]]) == (pytest.approx((-0.1 - 0.3) / 2), 2)
    assert forward_transfer(scores, [[], [0, 1], [2]]) == (pytest.approx(0.2), 1)
    assert forward_transfer(scores, [[], [0], [1, 2]]) == (pytest.approx((0.4 + 0.2) / 2), 2)


def test_a_task_that_comes_back_is_measured_from_its_last_stage_and_to_its_first() -> None:
    scores = [*SCORES, [0.9, 0.5, 0.3]]
    again = [*CURRENT, [1]]
    assert backward_transfer(scores, again) == (pytest.approx(((0.9 - 0.8) + (0.3 - 0.6)) / 2), 2)  # task 1 is in the last
    assert forward_transfer(scores, again) == forward_transfer(SCORES, CURRENT)


@pytest.mark.parametrize(
    ("scores", "current"),
    [([], []), ([BASE], [[]]), ([BASE, [0.8, 0.3, 0.1]], [[], [0]]), ([BASE, [0.8, 0.3, 0.1]], [[], [0, 1, 2]])],
)
def test_one_stage_of_training_says_nothing(scores: list[list[float]], current: list[list[int]]) -> None:
    assert backward_transfer(scores, current) == Transfer(None, 0)
    assert forward_transfer(scores, current) == Transfer(None, 0)


def test_without_a_base_model_only_the_way_back_is_defined() -> None:
    assert forward_transfer(SCORES[1:], CURRENT[1:]) == Transfer(None, 0)
    assert backward_transfer(SCORES[1:], CURRENT[1:]) == backward_transfer(SCORES, CURRENT)


def test_what_was_not_measured_does_not_count() -> None:
    holes = [[0.1, None, 0.0], [0.8, 0.3, 0.1], [0.5, 0.9, 0.4], [None, 0.7, 0.6]]
    assert backward_transfer(holes, CURRENT) == (pytest.approx(-0.2), 1)
    assert forward_transfer(holes, CURRENT) == (pytest.approx(0.4), 1)
    nothing = [[None] * 3] * 4
    assert (backward_transfer(nothing, CURRENT), forward_transfer(nothing, CURRENT)) == (Transfer(None, 0), Transfer(None, 0))


@given(scores=matrices(4, 3), shift=st.floats(-1, 1), order=st.permutations(range(3)))
@few
def test_differences_are_linear_and_do_not_care_for_the_order_of_columns(
    scores: list[list[float]], shift: float, order: list[int]
) -> None:
    for transfer in (backward_transfer, forward_transfer):
        found = transfer(scores, CURRENT).mean
        assert found is not None
        assert -1 <= found <= 1
        assert transfer((np.array(scores) + shift).tolist(), CURRENT).mean == pytest.approx(found, abs=1e-12)
        assert transfer((-np.array(scores)).tolist(), CURRENT).mean == pytest.approx(-found)
        moved = [[order.index(j) for j in stage] for stage in CURRENT]
        assert transfer(np.array(scores)[:, order].tolist(), moved).mean == pytest.approx(found)
        assert transfer([scores[0]] * 4, CURRENT).mean == 0


def test_retention_tells_both_of_exact_match_and_of_the_loss() -> None:
    def of(loss: float, exact: float) -> Summary:
        return Summary(loss_nats_per_token=loss, stderr=None, exact_match=exact, exact_stderr=None, n=1, n_loss_tokens=1)

    found = retention(
        [
            Stage(name="before", current=[], domains={"a": of(3.0, 0.1), "b": of(4.0, 0.0), "old": of(1.0, 0.9)}),
            Stage(name="a", current=["a"], domains={"a": of(1.0, 0.8), "b": of(3.5, 0.2), "old": of(2.0, 0.5)}),
            Stage(name="b", current=["b"], domains={"a": of(2.5, 0.2), "b": of(1.0, 0.6), "old": of(3.0, 0.1)}),
        ]
    )
    assert found["backward_transfer"] == {"exact_match": pytest.approx(-0.6), "loss_nats": 1.5, "n_domains": 1}
    assert found["forward_transfer"] == {"exact_match": pytest.approx(0.2), "loss_nats": -0.5, "n_domains": 1}


def test_a_domain_that_is_trained_on_and_never_measured_does_not_count() -> None:
    def of(exact: float) -> Summary:
        return Summary(loss_nats_per_token=1.0, stderr=None, exact_match=exact, exact_stderr=None, n=1, n_loss_tokens=1)

    rows = [([], 0.0), (["unseen"], 0.25), (["b"], 0.5)]
    found = retention([Stage(name=str(i), current=new, domains={"b": of(exact)}) for i, (new, exact) in enumerate(rows)])
    assert found["forward_transfer"] == {"exact_match": 0.25, "loss_nats": 0.0, "n_domains": 1}
    assert found["backward_transfer"] == {"exact_match": None, "loss_nats": None, "n_domains": 0}
