"""One battery for every replay policy: sums, capacities, none without an earlier domain; then InsCL's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import composer.replay
from composer.errors import InputError, SpecError
from composer.replay import REPLAY
from composer.replay.base import RiskReplay
from composer.select import SELECTORS
from composer.spec import member
from composer.types import ReplayContext, SimilarityMatrix

few = settings(max_examples=25, deadline=None)


def distances(domains, to_current):
    """Distances that are given to the last domain and one between the others."""
    k = len(domains)
    value = np.ones((k, k)) - np.eye(k)
    value[-1, :-1] = value[:-1, -1] = to_current
    return SimilarityMatrix(domains=tuple(domains), value=tuple(map(tuple, value.tolist())), measure="test")


def stage(to_current, available):
    earlier = tuple(f"t{i}" for i in range(len(available)))
    return ReplayContext(
        stage=len(earlier),
        earlier=earlier,
        current=("now",),
        weights=(1.0,),
        available=tuple(available),
        similarity=distances((*earlier, "now"), to_current),
        risk=dict(zip(earlier, np.asarray(to_current, dtype=float).tolist(), strict=True)),
        forgetting=dict(zip(earlier, (np.asarray(to_current, dtype=float) - 0.2).tolist(), strict=True)),
    )


@pytest.mark.parametrize("word", REPLAY)
def test_a_policy_is_one_file_named_as_its_word_and_says_what_it_is(word):
    cls = REPLAY[word]
    assert (Path(composer.replay.__file__).parent / f"{word}.py").is_file()
    assert cls.model_fields["name"].default == word
    assert cls.summary
    assert cls.reference
    assert member(dict(cls.natural_select), SELECTORS, kind="selector")
    assert type(member(word, REPLAY, kind="replay policy")) is cls


@pytest.mark.parametrize("word", REPLAY)
@given(available=st.lists(st.integers(0, 500), min_size=1, max_size=6))
@few
def test_the_total_is_kept_and_no_domain_gives_more_than_it_has(word, available):
    policy = REPLAY[word]()
    context = stage(np.linspace(0.1, 1, len(available)), available)
    amounts = policy.amounts(context)
    assert amounts.dtype == np.int64
    assert amounts.shape == (len(available),)
    assert (amounts <= np.array(available)).all()
    assert amounts.sum() + policy.padding(context) == min(len(available) * policy.per_task, sum(available))
    assert (amounts == policy.amounts(context)).all()


@pytest.mark.parametrize("word", REPLAY)
def test_without_an_earlier_domain_nothing_comes_back(word):
    context = ReplayContext(stage=0, earlier=(), current=("now",), weights=(1.0,), available=())
    assert REPLAY[word]().amounts(context).tolist() == []


@pytest.mark.parametrize("word", REPLAY)
def test_one_earlier_domain_gives_per_task(word):
    policy, context = REPLAY[word](), stage([0.37], [10_000])
    assert policy.amounts(context).tolist() == [policy.per_task - policy.padding(context)]


@pytest.mark.parametrize("word", REPLAY)
def test_what_a_policy_needs_is_an_error_when_absent(word):
    bare = ReplayContext(stage=1, earlier=("a",), current=("b",), weights=(1.0,), available=(500,))
    if not REPLAY[word].needs:
        REPLAY[word]().amounts(bare)
        return
    way_out = {
        "similarity": "give the recipe a distance",
        "risk": "give the recipe an embedder",
        "forgetting": "measured between the stages",
    }
    [needed] = REPLAY[word].needs
    with pytest.raises(SpecError, match=f"replay {word}: needs {needed}.*{way_out[needed]}"):
        REPLAY[word]().amounts(bare)


@pytest.mark.parametrize("word", REPLAY)
def test_a_negative_amount_is_refused(word):
    with pytest.raises(SpecError, match="per_task: input should be"):
        REPLAY[word](per_task=-1)


def test_no_replay_cannot_be_given_an_amount():
    with pytest.raises(SpecError, match="per_task: input should be 0"):
        REPLAY["none"](per_task=5)


@pytest.mark.parametrize("word", ["random", "stratified"])
def test_equal_amounts_and_the_surplus_to_the_others(word):
    policy = REPLAY[word](per_task=100)
    assert policy.amounts(stage([1, 1, 1], [1000, 1000, 1000])).tolist() == [100, 100, 100]
    assert policy.amounts(stage([1, 1, 1], [40, 1000, 1000])).tolist() == [40, 130, 130]
    assert policy.amounts(stage([1, 1], [30, 20])).tolist() == [30, 20]


def test_shares_follow_the_distances():
    assert REPLAY["distance"](per_task=200).amounts(stage([0.1, 0.3], [999, 999])).tolist() == [100, 300]
    assert REPLAY["distance"](per_task=200).amounts(stage([0.1, 0.3], [999, 250])).tolist() == [150, 250]


def test_equal_domains_share_equally():
    assert REPLAY["distance"](per_task=200).amounts(stage([0, 0, 0], [999] * 3)).tolist() == [200, 200, 200]


@given(scale=st.sampled_from([0.25, 0.5, 2.0]), to_current=st.lists(st.floats(0.01, 1), min_size=2, max_size=5))
@few
def test_only_ratios_of_distances_count(scale, to_current):
    policy, room = REPLAY["distance"](), [10_000] * len(to_current)
    straight = policy.amounts(stage(to_current, room))
    assert (straight == policy.amounts(stage(np.array(to_current) * scale, room))).all()


def test_several_current_domains_are_weighed():
    value = ((0, 0.5, 0.2, 0.6), (0.5, 0, 0.4, 0.4), (0.2, 0.4, 0, 0.9), (0.6, 0.4, 0.9, 0))
    matrix = SimilarityMatrix(domains=("a", "b", "x", "y"), value=value, measure="test")
    context = ReplayContext(
        stage=1, earlier=("a", "b"), current=("x", "y"), weights=(0.75, 0.25), available=(999, 999), similarity=matrix
    )
    # a: 0.75 * 0.2 + 0.25 * 0.6 = 0.3; b: 0.4
    assert REPLAY["distance"](per_task=350).amounts(context).tolist() == [300, 400]


def test_a_similarity_is_no_distance():
    matrix = SimilarityMatrix(domains=("a", "b"), value=((1, 0.5), (0.5, 1)), kind="similarity", measure="test")
    context = ReplayContext(stage=1, earlier=("a",), current=("b",), weights=(1.0,), available=(9,), similarity=matrix)
    with pytest.raises(SpecError, match="replay by distance needs distances; expected distance; got similarity"):
        REPLAY["distance"]().amounts(context)


def test_a_domain_without_distances_is_named():
    context = ReplayContext(
        stage=1, earlier=("a",), current=("z",), weights=(1.0,), available=(9,), similarity=distances(["a", "b"], [1])
    )
    with pytest.raises(SpecError, match="no distance to a domain; expected among a, b; got z"):
        REPLAY["distance"]().amounts(context)


def test_the_inverse_of_the_distances_gives_more_to_near_domains():
    inverse = REPLAY["distance"](per_task=200, inverse=True)
    assert inverse.amounts(stage([0.1, 0.3], [999, 999])).tolist() == [300, 100]
    assert inverse.amounts(stage([0.0, 0.3, 0.0], [999] * 3)).tolist() == [300, 0, 300]


AT_RISK = [word for word, cls in REPLAY.items() if issubclass(cls, RiskReplay)]


@pytest.mark.parametrize("word", AT_RISK)
@given(risk=st.lists(st.floats(0, 5), min_size=1, max_size=6), strength=st.floats(0, 50))
@few
def test_shares_at_risk_sum_to_one_and_differ_by_what_the_risks_allow(word, risk, strength):
    policy = REPLAY[word](strength=strength)
    context = stage(np.array(risk) + (0.2 if policy.field == "forgetting" else 0), [10_000] * len(risk))
    shares = policy.shares(context)
    assert shares.sum() == pytest.approx(1)
    assert (shares[:, None] / shares <= (1 + strength * np.array(risk))[:, None] * (1 + 1e-9)).all()
    assert (np.argsort(shares, kind="stable")[-1] == np.argsort(risk, kind="stable")[-1]) or np.ptp(shares) < 1e-9


@pytest.mark.parametrize("word", AT_RISK)
def test_without_risk_or_with_no_strength_the_shares_are_equal_and_with_little_of_either_nearly_so(word):
    none = stage([0, 0, 0] if REPLAY[word].field == "risk" else [0.1, 0.2, 0.0], [999] * 3)
    assert REPLAY[word](per_task=100).amounts(none).tolist() == [100, 100, 100]
    assert REPLAY[word](per_task=100, strength=0).amounts(stage([0.3, 0.9, 0.5], [999] * 3)).tolist() == [100, 100, 100]
    little = np.array([0.003, 0, 0]) + (0.2 if REPLAY[word].field == "forgetting" else 0)
    assert np.ptp(REPLAY[word]().shares(stage(little.tolist(), [999] * 3))) < 0.003


def test_what_was_not_forgotten_counts_as_no_risk():
    # the forgetting is 0.3, -0.1 and 0.1 nats
    assert REPLAY["loss"](per_task=150, strength=10).amounts(stage([0.5, 0.1, 0.3], [999] * 3)).tolist() == [257, 64, 129]


@pytest.mark.parametrize("word", AT_RISK)
def test_a_domain_of_unknown_risk_is_named(word):
    told = {"risk": {"a": 0.5}, "forgetting": {"a": 0.5}}
    context = ReplayContext(stage=1, earlier=("a", "b"), current=("c",), weights=(1.0,), available=(9, 9), **told)
    with pytest.raises(InputError, match=f"replay {word}: the risk of a domain is not known; got b"):
        REPLAY[word]().amounts(context)
