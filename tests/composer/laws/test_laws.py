"""One battery for every law: on the simplex, equivariant, deterministic, and honest about what it needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import composer.laws
from composer.errors import SpecError
from composer.laws import LAWS
from composer.laws.base import lift
from composer.spec import member
from composer.types import KnowledgeDistribution, MixContext, Mixture

FIELDS = {
    "explicit": {"weights": {"d0": 2.0, "d1": 0.5}},
    "knowledge": {"floor": 0.05},
    "temperature": {"temperature": 3.0},
}
SIZES = st.lists(st.integers(1, 10**9), min_size=2, max_size=8)
few = settings(max_examples=25, deadline=None)


def law(word):
    return LAWS[word](**FIELDS.get(word, {}))


def known(domains, p):
    k = len(domains)
    p = np.asarray(p, dtype=float)
    return KnowledgeDistribution(domains=domains, p=p / p.sum(), stderr=(0.0,) * k, low=(0.0,) * k, high=(1.0,) * k, n=100)


def context(sizes, *, order=None):
    domains = [f"d{i}" for i in range(len(sizes))]
    everything = MixContext(domains=tuple(domains), sizes=tuple(sizes), knowledge=known(tuple(domains), sizes))
    if order is None:
        return everything
    return MixContext(
        domains=tuple(domains[i] for i in order), sizes=tuple(sizes[i] for i in order), knowledge=everything.knowledge
    )


@pytest.mark.parametrize("word", LAWS)
def test_a_law_is_one_file_named_as_its_word_and_says_what_it_is(word):
    cls = LAWS[word]
    assert (Path(composer.laws.__file__).parent / f"{word}.py").is_file()
    assert cls.model_fields["name"].default == word
    assert cls.summary
    assert cls.reference
    assert cls.needs <= {"sizes", "knowledge"}
    assert type(member({"name": word, **FIELDS.get(word, {})}, LAWS, kind="law")) is cls


@pytest.mark.parametrize("word", LAWS)
@given(sizes=SIZES)
@few
def test_weights_are_on_the_simplex_and_make_a_mixture(word, sizes):
    weights = law(word).weights(context(sizes))
    assert weights.dtype == np.float64
    assert weights.shape == (len(sizes),)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    Mixture(domains=context(sizes).domains, weights=tuple(weights.tolist()), law=word)


@pytest.mark.parametrize("word", LAWS)
@given(sizes=SIZES, data=st.data())
@few
def test_the_order_of_the_domains_does_not_matter(word, sizes, data):
    order = data.draw(st.permutations(range(len(sizes))))
    straight, permuted = law(word).weights(context(sizes)), law(word).weights(context(sizes, order=order))
    np.testing.assert_allclose(straight[list(order)], permuted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("word", LAWS)
def test_the_same_context_gives_the_same_bytes(word):
    here = context([5, 10, 20])
    assert law(word).weights(here).tobytes() == law(word).weights(here).tobytes()


@pytest.mark.parametrize("word", LAWS)
def test_what_a_law_needs_is_an_error_when_absent_and_nothing_else_is(word):
    bare = MixContext(domains=("d0", "d1"))
    if not LAWS[word].needs:
        law(word).weights(bare)
        return
    for field in LAWS[word].needs:
        with pytest.raises(SpecError, match=f"law {word}: needs {field}, which this run does not have"):
            law(word).weights(bare)


@pytest.mark.parametrize("word", sorted(LAWS.keys() - {"explicit"}))
def test_a_single_domain_gets_everything(word):
    assert law(word).weights(context([7])).tolist() == [1.0]


def test_inverse_is_what_the_paper_says_to_the_digit():
    p = np.array([0.5, 0.3, 0.2])
    weights = LAWS["inverse"]().weights(MixContext(domains=("a", "b", "c"), knowledge=known(("a", "b", "c"), p)))
    np.testing.assert_allclose(weights, (1 - p) / 2, rtol=1e-14)


def test_temperature_runs_from_sharp_over_proportional_to_uniform():
    here = context([10, 30, 60])
    proportional = LAWS["proportional"]().weights(here)
    np.testing.assert_allclose(LAWS["temperature"](temperature=1).weights(here), proportional, rtol=1e-14)
    np.testing.assert_allclose(LAWS["temperature"](temperature=1e9).weights(here), [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(LAWS["temperature"](temperature=1e-4).weights(here), [0, 0, 1], atol=1e-12)
    spread = [np.ptp(LAWS["temperature"](temperature=t).weights(here)) for t in (0.5, 1, 2, 5)]
    assert spread == sorted(spread, reverse=True)


@pytest.mark.parametrize("word", ["proportional", "temperature"])
def test_an_empty_domain_gets_nothing(word):
    weights = law(word).weights(MixContext(domains=("a", "b"), sizes=(0, 5)))
    assert weights.tolist() == [0.0, 1.0]


@given(sizes=SIZES, share=st.floats(0, 1))
@few
def test_no_domain_falls_below_the_floor_of_knowledge(sizes, share):
    k = len(sizes)
    floor = share / k
    here = context(sizes)
    weights = LAWS["knowledge"](floor=floor).weights(here)
    p = np.array(sizes) / sum(sizes)
    assert (weights >= floor - 1e-12).all()
    np.testing.assert_allclose(weights, floor + (1 - k * floor) * p, atol=1e-12)


def test_knowledge_without_a_floor_is_the_knowledge_and_the_highest_floor_is_uniform():
    here = context([1, 2, 5])
    np.testing.assert_allclose(LAWS["knowledge"]().weights(here), [0.125, 0.25, 0.625], rtol=1e-14)
    np.testing.assert_allclose(LAWS["knowledge"](floor=1 / 3).weights(here), [1 / 3] * 3, rtol=1e-14)


def test_knowledge_of_more_domains_is_restricted_to_those_asked_for():
    here = MixContext(domains=("b", "a"), knowledge=known(("a", "b", "c"), [1, 3, 4]))
    np.testing.assert_allclose(LAWS["knowledge"]().weights(here), [0.75, 0.25], rtol=1e-14)


def test_explicit_weights_are_normalised_and_a_domain_left_out_gets_none():
    here = MixContext(domains=("a", "b", "c"))
    assert LAWS["explicit"](weights={"c": 6, "a": 2}).weights(here).tolist() == [0.25, 0.0, 0.75]


def test_explicit_reads_back_from_its_identity():
    one = LAWS["explicit"](weights={"a": 1.0})
    assert LAWS["explicit"](**one.identity()) == one


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LAWS["explicit"](weights={"x": 1}), "no such domain; expected names among a, b; got x"),
        (lambda: LAWS["explicit"](weights={"a": 0}), "law explicit: no domain gets any weight"),
        (lambda: LAWS["explicit"](weights={"a": -1}), "weights.a: input should be greater than or equal to 0"),
        (lambda: LAWS["explicit"](weights={"a": float("nan")}), "weights.a"),
        (lambda: LAWS["explicit"](), "weights: missing field of Explicit"),
        (lambda: LAWS["temperature"](temperature=0), "temperature: input should be greater than 0"),
        (lambda: LAWS["temperature"](temperature=float("inf")), "temperature"),
        (lambda: LAWS["uniform"](flor=1), "flor: unknown field of Uniform"),
        (lambda: LAWS["knowledge"](floor=0.6), "a floor that the domains cannot all have; expected 0 to 1/2; got 0.6"),
        (lambda: LAWS["knowledge"](floor=-0.1), "floor: input should be greater than or equal to 0"),
    ],
)
def test_wrong_laws_are_refused_by_name(make, match):
    here = MixContext(domains=("a", "b"), knowledge=known(("a", "b"), [1, 1]))
    with pytest.raises(SpecError, match=match):
        make().weights(here)


def test_wrong_contexts_are_refused():
    with pytest.raises(SpecError, match="the knowledge lacks a domain; expected among a, b; got c"):
        LAWS["knowledge"]().weights(MixContext(domains=("a", "c"), knowledge=known(("a", "b"), [1, 1])))
    with pytest.raises(SpecError, match="the knowledge is zero on every domain"):
        LAWS["inverse"]().weights(MixContext(domains=("a",), knowledge=known(("a", "b"), [0, 1])))
    with pytest.raises(SpecError, match="law proportional: no domain gets any weight"):
        LAWS["proportional"]().weights(MixContext(domains=("a", "b"), sizes=(0, 0)))


def test_lift_keeps_the_order_and_the_sum():
    p = np.array([0.7, 0.2, 0.1, 0.0])
    lifted = lift(p, floor=0.1)
    assert lifted.sum() == pytest.approx(1)
    assert (np.diff(lifted) < 0).all()
    assert lifted[3] == 0.1
