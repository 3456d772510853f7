"""What holds of every way to find copies: one rule of what stays, whatever the order in which rows lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest

from composer.dedup import DEDUP, Dedup
from composer.dedup.ngrams import ngrams
from composer.dedup.rows import Rows
from composer.errors import SpecError
from composer.spec import member, rng

WORDS = [f"w{i}" for i in range(300)]


def embed(texts: Sequence[str]) -> np.ndarray:
    """Bags of words as unit vectors, without case."""
    rows = np.zeros((len(texts), 64), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for value in pl.Series(text.lower().split(), dtype=pl.String).hash(0).to_list():
            row[value % 64] += 1 if value >> 40 & 1 else -1
        row[0] += 0.01
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def messy(n: int = 120) -> list[str]:
    """Texts among which there are exact copies, near copies and chains of them."""
    dice = rng(1, "tests", "messy")
    texts: list[str] = []
    for i in range(n):
        kind = dice.random()
        if i and kind < 0.2:
            texts.append(texts[int(dice.integers(i))])
        elif i and kind < 0.6:
            words = texts[int(dice.integers(i))].split()
            words[int(dice.integers(len(words)))] = str(dice.choice(WORDS))
            texts.append(" ".join(words))
        else:
            texts.append(" ".join(dice.choice(WORDS, 60)))
    return texts


def likeness(name: str, texts: list[str]) -> np.ndarray:
    """The matrix by which a way judges, from its definition."""
    if name == "semantic":
        vectors = embed(texts)
        return vectors @ vectors.T
    if name == "exact":
        return np.array([[float(a == b) for b in texts] for a in texts])
    grams = ngrams(pl.Series(texts), 3, symbols=True)
    sets = [set(each.tolist()) for each in np.split(grams.hashes, grams.offsets[1:-1])]
    return np.array([[len(a & b) / len(a | b) for b in sets] for a in sets])


@pytest.fixture(params=sorted(DEDUP))
def way(request: pytest.FixtureRequest) -> Dedup:
    return DEDUP[request.param]()


def threshold(way: Dedup) -> float:
    return float(getattr(way, "threshold", 1.0))


def test_every_row_that_goes_is_as_like_as_asked_to_one_that_stays(way: Dedup, make_rows: Callable[..., Rows]) -> None:
    texts = messy()
    exact, original = way.originals(make_rows(texts), embed=embed)
    likes = likeness(way.name, texts)
    gone = np.flatnonzero(original != np.arange(len(texts)))
    assert len(gone) > 20
    assert (original[original] == original).all()
    assert (original <= np.arange(len(texts))).all(), "a row goes for one before it"
    # An exact copy of a near copy may be a little farther: what is measured is its exact original, which has the same text.
    assert (likes[gone, original[gone]] >= threshold(way) - 1e-5).all()
    assert all(texts[a] == texts[b] for a, b in enumerate(exact))


def test_what_stays_is_what_the_definition_says(way: Dedup, make_rows: Callable[..., Rows]) -> None:
    texts = messy()
    likes = likeness(way.name, texts)
    stays: list[int] = []
    for i in range(len(texts)):
        if not any(likes[i, j] >= threshold(way) - 1e-6 for j in stays):
            stays.append(i)
    original = way.originals(make_rows(texts), embed=embed)[1]
    assert np.flatnonzero(original == np.arange(len(texts))).tolist() == stays


def test_where_rows_lie_does_not_matter(way: Dedup, make_rows: Callable[..., Rows]) -> None:
    texts = messy()
    moved = rng(2, "tests").permutation(len(texts))  # row i of the second table is row moved[i] of the first
    first = way.originals(make_rows(texts, fixed=range(10)), embed=embed)[1]
    fixed = np.flatnonzero(moved < 10)
    second = way.originals(make_rows([texts[i] for i in moved], rank=moved, fixed=fixed, step=11), embed=embed)[1]
    assert (moved[second] == first[moved]).all()


def test_the_rank_says_which_copy_stays(way: Dedup, make_rows: Callable[..., Rows]) -> None:
    text = " ".join(WORDS[:60])
    assert way.originals(make_rows([text, "other words", text], rank=[2, 1, 0]), embed=embed)[1].tolist() == [2, 1, 2]


def test_what_is_fixed_stays_beside_its_like(make_rows: Callable[..., Rows]) -> None:
    base = " ".join(WORDS[:60])
    texts = [base, base + " more", base + " end"]
    for name in ("near", "semantic"):
        way = DEDUP[name]()
        assert way.originals(make_rows(texts, fixed=[0, 1]), embed=embed)[1].tolist() == [0, 1, 0]


def test_one_row_and_none(way: Dedup, make_rows: Callable[..., Rows]) -> None:
    assert way.originals(make_rows([]), embed=embed)[1].tolist() == []
    assert way.originals(make_rows(["a"]), embed=embed)[1].tolist() == [0]


def test_the_same_rows_give_the_same_answer_twice(way: Dedup, make_rows: Callable[..., Rows]) -> None:
    texts = messy()
    assert (way.originals(make_rows(texts), embed=embed)[1] == way.originals(make_rows(texts), embed=embed)[1]).all()


def test_members_are_named_as_the_family_says() -> None:
    for name, cls in DEDUP.items():
        assert cls().name == name
        assert cls.summary
        assert cls.reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("neer", r"unknown way 'neer'; did you mean 'near'"),
        ({"name": "near", "threshold": 0}, r"threshold: .*greater than 0"),
        ({"name": "near", "treshold": 0.5}, r"treshold: unknown field"),
        ({"name": "exact", "floor": 1.5}, r"floor: "),
        ({"name": "exact", "keep": "sometimes"}, r"keep"),
    ],
)
def test_wrong_fields_are_refused(given: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        member(given, DEDUP, kind="way")


def test_semantic_without_an_embedder(make_rows: Callable[..., Rows]) -> None:
    with pytest.raises(SpecError, match=r"needs an embedder"):
        DEDUP["semantic"]().originals(make_rows(["a b", "c d"]))
