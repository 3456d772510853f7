"""What every judge promises, run over the family."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from composer.errors import ModelError, SourceError
from probes.knowledge.judges import JUDGES, FittedJudge, Judge
from tests.probes.knowledge.judges.court import DOMAINS, Reader, drawn, examples


@pytest.fixture(params=sorted(JUDGES))
def word(request: pytest.FixtureRequest) -> str:
    return request.param


def fit(
    word: str, references: tuple[list[str], list[str]], *, domains: Any = DOMAINS, seed: int = 1, **fields: Any
) -> FittedJudge:
    judge: Judge = JUDGES[word](**fields)
    return judge.fit(*references, domains=domains, seed=seed, session=Reader(strength=0.4, bias=(1, 0, -1)))


def test_easy_domains_are_told_apart(word: str) -> None:
    fitted = fit(word, examples())
    fresh, labels = examples(30, seed=9)
    probability = fitted.probabilities(fresh)
    assert probability.shape == (90, 3)
    assert probability.dtype == np.float64
    assert (probability >= 0).all()
    assert probability.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert fitted.accuracy > 0.95
    assert np.mean([DOMAINS[j] for j in probability.argmax(axis=1)] == np.array(labels)) > 0.95


def test_the_confusion_has_columns_on_the_simplex(word: str) -> None:
    fitted = fit(word, examples(own=0.1))
    assert fitted.confusion.shape == (3, 3)
    assert fitted.confusion.sum(axis=0) == pytest.approx(1)
    assert 0.5 < fitted.accuracy < 0.95


def test_probabilities_follow_the_order_of_the_texts(word: str) -> None:
    fitted = fit(word, examples(own=0.1))
    fresh, _ = examples(5, seed=9, own=0.1)
    assert fitted.probabilities(fresh[::-1])[::-1] == pytest.approx(fitted.probabilities(fresh), abs=1e-12)
    assert fitted.probabilities(fresh[3:5]) == pytest.approx(fitted.probabilities(fresh)[3:5], abs=1e-12)


def test_probabilities_follow_the_given_order_of_domains(word: str) -> None:
    fresh, _ = examples(10, seed=9, own=0.1)
    one, other = (fit(word, examples(own=0.1), domains=domains) for domains in (DOMAINS, DOMAINS[::-1]))
    assert other.probabilities(fresh)[:, ::-1] == pytest.approx(one.probabilities(fresh), abs=0.01)
    assert other.accuracy == pytest.approx(one.accuracy, abs=0.06)


def test_order_and_repetition_of_references_do_not_matter(word: str) -> None:
    texts, labels = examples()
    one, two = fit(word, (texts, labels)), fit(word, ((texts * 2)[::-1], (labels * 2)[::-1]))
    assert one.accuracy == two.accuracy
    assert (one.probabilities(texts[:7]) == two.probabilities(texts[:7])).all()


def test_no_texts_have_no_probabilities(word: str) -> None:
    fitted = fit(word, examples())
    assert fitted.probabilities([]).shape == (0, 3)
    assert fitted.again([], 2, 0).shape == (2, 0, 3)
    assert fitted.again(["the court"], 0, 0).shape == (0, 1, 3)


def test_unbalanced_references_do_not_tilt_the_judge(word: str) -> None:
    texts, labels = examples(60, own=0.3)
    kept = [i for i, label in enumerate(labels) if label != "code" or i >= len(labels) - 12]
    fitted = fit(word, ([texts[i] for i in kept], [labels[i] for i in kept]))
    fresh, _ = examples(60, seed=9, own=0.3)
    assert fitted.probabilities(fresh).mean(axis=0)[2] > 0.275  # 0.26 without balance


def test_judges_that_learn_again_differ_as_judges_of_other_references_do(word: str) -> None:
    fresh, _ = examples(20, seed=9, own=0.1)
    own = fit(word, examples(30, own=0.1), max_texts=30)
    again = own.again(fresh, 40, 7)
    others = [fit(word, examples(30, seed=seed, own=0.1), max_texts=30).probabilities(fresh) for seed in range(10, 22)]
    assert again.shape == (40, 60, 3)
    assert again.dtype == np.float64
    assert again.sum(axis=2) == pytest.approx(1, abs=1e-12)
    assert (again == own.again(fresh, 40, 7)).all()
    assert (again[:2] != own.again(fresh, 2, 8)).any()
    assert again.mean(axis=(0, 1)) == pytest.approx(own.probabilities(fresh).mean(axis=0), abs=0.02)
    ratio = again.std(axis=0).mean() / np.std(others, axis=0).mean()
    assert 0.5 < ratio < 2


def test_the_report_is_plain_and_says_how_good_the_judge_is(word: str) -> None:
    fitted = fit(word, examples(own=0.1))
    judged = fitted.judged(fitted.probabilities(examples(20, seed=3, own=0.1)[0]))
    report = json.loads(json.dumps({**fitted.report, "judged": judged}, allow_nan=False))
    assert report["accuracy"] == fitted.accuracy
    assert 0 < report["log_loss"] < np.log(3)
    assert 0 <= report["calibration_error"] < 0.25
    assert report["calibration"]["method"] in ("none", "contextual")
    assert report["judged"]["n"] == 60
    assert report["judged"]["transfer"]["holds"]


def test_a_correction_is_made_in_silence_where_only_the_mixture_is_another(word: str, said: list[str]) -> None:
    truth = np.array([0.7, 0.2, 0.1])
    fresh, missed = drawn(2000, truth, seed=4, own=0.1), {}
    for correct in (False, True):
        fitted = fit(word, examples(100, own=0.1), correct=correct)
        probability = fitted.probabilities(fresh)
        missed[correct] = np.abs(fitted.shares(probability.mean(axis=0)) - truth).sum() / 2
        assert fitted.judged(probability)["transfer"]["holds"]
    assert missed[True] < 0.06
    assert missed[True] < missed[False] / 2
    assert not said


def test_a_correction_that_does_not_carry_over_is_told(word: str, said: list[str]) -> None:
    unlike = drawn(300, (0.5, 0.3, 0.2), seed=4, own=0.02)
    for correct in (False, True):
        fitted = fit(word, examples(100), correct=correct)
        assert not fitted.judged(fitted.probabilities(unlike))["transfer"]["holds"]
    assert len(said) == 1
    assert "distance 0." in said[0]
    assert "set judge.correct to false" in said[0]


def test_a_correction_that_is_not_needed_is_told(word: str, said: list[str]) -> None:
    for correct in (False, True):
        fitted = fit(word, examples(60), correct=correct)
        fitted.judged(fitted.probabilities(examples(30, seed=9)[0]))
    assert len(said) == 1
    assert re.search(r"a judge of accuracy (0\.9[5-9]\d|1\.000) needs no correction", said[0])


def test_a_judge_that_guesses_is_refused(word: str) -> None:
    with pytest.raises(
        ModelError, match=r"cannot tell the domains apart; expected above 0.500; got accuracy 0\.[1-4]\d+ over 3"
    ):
        fit(word, examples(own=0.0))


def test_references_that_cannot_be_used_are_refused(word: str) -> None:
    texts, labels = examples(8)
    least = {"classifier": 5, "llm": 7}[word]
    with pytest.raises(SourceError, match=rf"domain finance: too few .*; expected at least {least} distinct ones; got 0"):
        fit(word, (texts, labels), domains=(*DOMAINS, "finance"))
    with pytest.raises(SourceError, match=r"domain law: too few .*; got 1"):
        fit(word, (["same"] * 8 + texts[8:], labels))
    with pytest.raises(SourceError, match="unknown domain; expected law, medicine; got code"):
        fit(word, (texts, labels), domains=DOMAINS[:2])
    with pytest.raises(SourceError, match="at least two domains"):
        fit(word, (texts[:8], labels[:8]), domains=("law",))
