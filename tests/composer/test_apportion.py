"""Counts sum to the total to the unit, quotas and capacities are kept, and every prefix of an order is fair."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.apportion import apportion, interleave
from composer.errors import InputError
from composer.spec import rng

WEIGHTS = st.lists(st.floats(0, 100) | st.just(0.0), min_size=1, max_size=12).filter(lambda w: max(w) > 1e-6)
few = settings(max_examples=60, deadline=None)


@given(weights=WEIGHTS, total=st.integers(0, 10**6))
@few
def test_the_sum_is_the_total_and_each_count_is_within_one_of_its_quota(weights, total):
    counts = apportion(weights, total)
    quota = np.array(weights) / sum(weights) * total
    assert counts.dtype == np.int64
    assert counts.sum() == total
    assert (np.abs(counts - quota) < 1 + 1e-6).all()
    assert (counts[np.array(weights) == 0] == 0).all()


@given(weights=WEIGHTS, total=st.integers(0, 2000), data=st.data())
@few
def test_a_capacity_holds_and_the_surplus_goes_to_the_others_in_proportion(weights, total, data):
    w = np.array(weights)
    capacity = np.array(data.draw(st.lists(st.integers(0, 400), min_size=len(w), max_size=len(w))))
    counts = apportion(w, total, capacity=capacity)
    assert counts.sum() == min(total, capacity[w > 0].sum())
    assert (counts <= capacity).all()
    assert (counts[w == 0] == 0).all()
    open_ = (counts < capacity) & (w > 0)
    for i in np.flatnonzero(open_):  # an open entry has its full proportion: nobody has more per weight, but for one unit
        assert ((counts - 1) * w[i] <= (counts[i] + 1) * w * (1 + 1e-9) + 1e-9)[w > 0].all()


@given(weights=WEIGHTS, total=st.integers(0, 500), minimum=st.integers(1, 5), data=st.data())
@few
def test_a_minimum_holds_as_far_as_the_capacity_goes(weights, total, minimum, data):
    w = np.array(weights)
    capacity = np.array(data.draw(st.lists(st.integers(0, 100), min_size=len(w), max_size=len(w))))
    low = np.minimum(minimum, capacity)
    if total < low.sum():
        with pytest.raises(InputError, match=f"below the minimums; expected {low.sum()} or more; got {total}"):
            apportion(w, total, capacity=capacity, minimum=minimum)
        return
    counts = apportion(w, total, capacity=capacity, minimum=minimum)
    assert (counts >= low).all()
    assert (counts <= capacity).all()
    assert (counts[w == 0] == low[w == 0]).all()
    assert counts.sum() == min(total, np.where(w > 0, capacity, low).sum())


@given(weights=WEIGHTS, total=st.integers(0, 1000), data=st.data())
@few
def test_permuting_the_entries_permutes_the_counts_but_for_ties(weights, total, data):
    w = np.array(weights)
    order = np.array(data.draw(st.permutations(range(len(w)))))
    quota = w / w.sum() * total
    parts = np.sort(np.round(quota % 1, 7))
    if (np.diff(parts) > 1e-6).all():
        assert (apportion(w, total)[order] == apportion(w[order], total)).all()
    assert sorted(apportion(w, total)) == sorted(apportion(w[order], total))


@given(weights=WEIGHTS, total=st.integers(0, 1000), scale=st.sampled_from([0.5, 2.0, 1024.0]))
@few
def test_only_ratios_of_weights_count(weights, total, scale):
    assert (apportion(weights, total) == apportion(np.array(weights) * scale, total)).all()


@pytest.mark.parametrize(
    ("weights", "total", "options", "expected"),
    [
        ([3 / 7, 2 / 7, 2 / 7], 100, {}, [43, 29, 28]),  # plain floors give 98
        ([1 / 3] * 3, 100, {}, [34, 33, 33]),
        ([0.1, 0.3], 2, {}, [1, 1]),  # parts of a half each: a tie that rounding noise must not decide
        ([1, 1], 0, {}, [0, 0]),
        ([0, 5], 7, {}, [0, 7]),
        ([0.1, 0.3], 400, {}, [100, 300]),  # InsCL: two earlier tasks, alpha 200
        ([np.log(2), 0, np.log(2), 2 * np.log(2)], 8, {}, [2, 0, 2, 4]),
        ([np.log(2), 0, np.log(2), 2 * np.log(2)], 8, {"minimum": 1}, [2, 1, 2, 3]),
        ([5, 3, 2], 100, {"capacity": [10, 30, 1000]}, [10, 30, 60]),  # the surplus of the first overfills the second
        ([5, 3, 0], 100, {"capacity": [10, 30, 1000]}, [10, 30, 0]),  # short: a zero weight takes nothing
        ([1, 1, 8], 10, {"capacity": [9, 9, 2], "minimum": 2}, [4, 4, 2]),
        ([1e-300, 1e300], 10, {}, [0, 10]),
        ([1] * 3, 2**47, {}, [2**47 // 3 + 1, 2**47 // 3 + 1, 2**47 // 3]),
    ],
)
def test_numbers(weights, total, options, expected):
    assert apportion(weights, total, **options).tolist() == expected


def test_it_is_the_largest_remainder_of_exact_fractions_ties_included():
    for tenths in product(range(1, 7), repeat=3):
        for total in range(1, 9):
            quota = [Fraction(tenth * total, sum(tenths)) for tenth in tenths]
            expected = [int(q) for q in quota]
            for i in sorted(range(3), key=lambda i: expected[i] - quota[i])[: total - sum(expected)]:
                expected[i] += 1
            assert apportion(np.array(tenths) / 10, total).tolist() == expected, (tenths, total)


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, float("nan")], [float("inf"), 1], [[1, 2]]])
def test_weights_that_share_nothing_are_refused(weights):
    with pytest.raises(InputError, match="expected finite numbers, none negative, at least one above zero"):
        apportion(weights, 10)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"total": -1}, "expected 0 to 2\\*\\*48; got -1"),
        ({"total": 2**60}, "cannot be shared out"),
        ({"total": 5, "capacity": [1, -1]}, "expected 2 counts, none negative"),
        ({"total": 5, "capacity": [1]}, "capacities that do not fit"),
        ({"total": 1, "minimum": 1}, "below the minimums; expected 2 or more; got 1"),
    ],
)
def test_totals_and_capacities_that_do_not_fit_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        apportion([1, 1], **options)


def test_a_million_entries_take_no_time_to_settle():
    w = rng(0, "test").random(200_000)
    counts = apportion(w, 500_000, capacity=np.full(w.size, 4), minimum=1)
    assert counts.sum() == 500_000
    assert counts.min() == 1
    assert counts.max() <= 4


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=8), seed=st.integers(0, 99))
@few
def test_every_prefix_is_within_the_promised_bound_of_its_share(counts, seed):
    n = np.array(counts)
    order = interleave(counts, rng(seed, "test"))
    assert np.bincount(order, minlength=n.size).tolist() == counts
    k, total = (n > 0).sum(), n.sum()
    had = np.cumsum(order[:, None] == np.arange(n.size), axis=0)
    share = np.arange(1, total + 1)[:, None] * n / max(total, 1)
    assert (np.abs(had - share) <= 1 + (k - 2) * n / max(total, 1) + 1e-9).all()


def test_a_plain_concatenation_would_break_the_bound():
    n = np.array([30, 30])
    had = np.cumsum(np.repeat([0, 1], n) == 0)
    assert np.abs(had - np.arange(1, 61) / 2).max() > 1


def test_the_order_follows_the_generator():
    counts = [30, 50, 20]
    assert (interleave(counts, rng(1, "a")) == interleave(counts, rng(1, "a"))).all()
    assert (interleave(counts, rng(1, "a")) != interleave(counts, rng(2, "a"))).any()
    assert interleave([0, 0], rng(1, "a")).size == 0
