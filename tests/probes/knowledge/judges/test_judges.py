"""What every judge promises, and the correction of the classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ModelError, SourceError
from probes.knowledge.judges import JUDGES, Judge
from probes.knowledge.judges.classifier import Classifier, invert

DOMAINS = ("law", "medicine", "code")
REAL = Path(__file__).parents[4] / "../shared/data/domains"
WORDS = {
    "law": "court judge contract clause tenant statute appeal verdict",
    "medicine": "patient dose fever tablet symptom nurse surgery blood",
    "code": "function loop array compile variable string integer class",
}
COMMON = "the a of and is was in to with for on that this not very some"


def text(domain: str, random: np.random.Generator, *, own: float = 0.4, length: int = 20) -> str:
    pick = [WORDS[domain].split() if random.random() < own else COMMON.split() for _ in range(length)]
    return " ".join(words[random.integers(len(words))] for words in pick)


def examples(n: int = 40, *, seed: int = 0, own: float = 0.4) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    labels = [domain for domain in DOMAINS for _ in range(n)]
    return [text(label, random, own=own) for label in labels], labels


@pytest.fixture(params=sorted(JUDGES))
def judge(request: pytest.FixtureRequest) -> Judge:
    return JUDGES[request.param]()


def test_easy_domains_are_told_apart(judge: Judge) -> None:
    fitted = judge.fit(*examples(), domains=DOMAINS, seed=1)
    fresh, labels = examples(30, seed=9)
    probability = fitted.probabilities(fresh)
    assert probability.shape == (90, 3)
    assert probability.dtype == np.float64
    assert (probability >= 0).all()
    assert probability.sum(axis=1) == pytest.approx(1)
    assert fitted.accuracy > 0.95
    assert np.mean([DOMAINS[j] for j in probability.argmax(axis=1)] == np.array(labels)) > 0.95


def test_the_confusion_has_columns_on_the_simplex(judge: Judge) -> None:
    fitted = judge.fit(*examples(own=0.1), domains=DOMAINS, seed=1)
    assert fitted.confusion.shape == (3, 3)
    assert fitted.confusion.sum(axis=0) == pytest.approx(1)
    assert 0.5 < fitted.accuracy < 0.95


def test_probabilities_follow_the_given_order_of_domains(judge: Judge) -> None:
    fresh, _ = examples(5, seed=9)
    one = judge.fit(*examples(), domains=DOMAINS, seed=1)
    other = judge.fit(*examples(), domains=DOMAINS[::-1], seed=1)
    assert (one.probabilities(fresh).argmax(axis=1) == 2 - other.probabilities(fresh).argmax(axis=1)).all()
    assert other.accuracy > 0.9


def test_order_and_repetition_of_references_do_not_matter(judge: Judge) -> None:
    texts, labels = examples()
    one = judge.fit(texts, labels, domains=DOMAINS, seed=1)
    two = judge.fit((texts * 2)[::-1], (labels * 2)[::-1], domains=DOMAINS, seed=1)
    assert one.accuracy == two.accuracy
    assert (one.probabilities(texts[:7]) == two.probabilities(texts[:7])).all()


def test_no_texts_have_no_probabilities(judge: Judge) -> None:
    assert judge.fit(*examples(), domains=DOMAINS, seed=1).probabilities([]).shape == (0, 3)


def test_unbalanced_references_do_not_tilt_the_judge(judge: Judge) -> None:
    texts, labels = examples(60, own=0.3)
    kept = [i for i, label in enumerate(labels) if label != "code" or i >= len(labels) - 12]
    fitted = judge.fit([texts[i] for i in kept], [labels[i] for i in kept], domains=DOMAINS, seed=1)
    fresh, _ = examples(60, seed=9, own=0.3)
    assert fitted.probabilities(fresh).mean(axis=0)[2] > 0.275  # 0.26 without balance


def test_a_judge_that_guesses_is_refused(judge: Judge) -> None:
    with pytest.raises(
        ModelError, match=r"cannot tell the domains apart; expected above 0.500; got accuracy 0\.[1-4]\d+ over 3"
    ):
        judge.fit(*examples(own=0.0), domains=DOMAINS, seed=1)


def test_references_that_cannot_be_used_are_refused(judge: Judge) -> None:
    texts, labels = examples(6)
    with pytest.raises(SourceError, match=r"domain finance: too few reference texts; expected at least 5 distinct ones; got 0"):
        judge.fit(texts, labels, domains=(*DOMAINS, "finance"), seed=1)
    with pytest.raises(SourceError, match=r"domain law: too few .*; got 1"):
        judge.fit(["same"] * 6 + texts[6:], labels, domains=DOMAINS, seed=1)
    with pytest.raises(SourceError, match="unknown domain; expected law, medicine; got code"):
        judge.fit(texts, labels, domains=DOMAINS[:2], seed=1)
    with pytest.raises(SourceError, match="at least two domains"):
        judge.fit(texts[:6], labels[:6], domains=("law",), seed=1)


def test_only_the_beginning_of_a_text_is_read() -> None:
    texts, labels = examples()
    fitted = Classifier(max_chars=200).fit(texts, labels, domains=DOMAINS, seed=1)
    head = texts[0].ljust(200)
    assert (fitted.probabilities([head]) == fitted.probabilities([head + " patient fever" * 50])).all()


def test_max_texts_bounds_a_domain() -> None:
    kept, y = Classifier(max_texts=10)._examples(*examples(), domains=DOMAINS, seed=1)
    assert np.bincount(y).tolist() == [10, 10, 10]
    assert len(set(kept)) == 30
    assert kept != Classifier(max_texts=10)._examples(*examples(), domains=DOMAINS, seed=2)[0]


def test_correction_repairs_a_weak_judge() -> None:
    truth = np.array([0.7, 0.2, 0.1])
    random = np.random.default_rng(4)
    fresh = [text(DOMAINS[j], random, own=0.1) for j in random.choice(3, size=3000, p=truth)]
    missed = {}
    for correct in (False, True):
        fitted = Classifier(correct=correct).fit(*examples(100, own=0.1), domains=DOMAINS, seed=1)
        missed[correct] = np.abs(fitted.shares(fitted.probabilities(fresh).mean(axis=0)) - truth).sum() / 2
    assert missed[True] < 0.06
    assert missed[True] < missed[False] / 2


def simplex(size: int) -> st.SearchStrategy[np.ndarray]:
    return st.lists(st.floats(0.01, 1), min_size=size, max_size=size).map(lambda v: np.array(v) / sum(v))


@settings(max_examples=60, deadline=None)
@given(simplex(4), st.lists(simplex(4), min_size=4, max_size=4))
def test_inverting_undoes_confusion(p: np.ndarray, columns: list[np.ndarray]) -> None:
    confusion = 0.5 * np.eye(4) + 0.5 * np.array(columns).T
    assert invert(confusion, confusion @ p) == pytest.approx(p, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(simplex(3), st.lists(simplex(3), min_size=3, max_size=3), st.integers(0, 1000))
def test_inverting_finds_the_nearest_point_of_the_simplex(m: np.ndarray, columns: list[np.ndarray], seed: int) -> None:
    confusion = 0.3 * np.eye(3) + 0.7 * np.array(columns).T
    found = invert(confusion, m)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    others = np.random.default_rng(seed).dirichlet(np.ones(3), size=500)
    assert np.linalg.norm(confusion @ found - m) <= np.linalg.norm(others @ confusion.T - m, axis=1).min() + 1e-9


@pytest.mark.skipif(not REAL.is_dir(), reason="needs shared/data beside the repository")
def test_real_domains_are_told_apart() -> None:
    frame = pl.concat([pl.read_parquet(REAL / f"{word}.parquet").head(60) for word in ("code", "finance", "law")])
    texts = (frame["instruction"] + "\n" + frame["output"]).to_list()
    fitted = Classifier(max_chars=400).fit(texts, frame["domain"].to_list(), domains=("finance", "law", "code"), seed=0)
    assert fitted.accuracy > 0.9
