"""MinHash finds what the definition says, in any script, and no crowd or long text brings it down."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.dedup import resolve
from composer.dedup.minhash import bucket_ids, signatures
from composer.dedup.near import SEED, NearDedup
from composer.dedup.ngrams import ngrams
from composer.dedup.rows import Rows
from composer.dedup.sets import Sets
from composer.spec import rng

DATA = Path(__file__).parents[3] / "../shared/data"
WORDS = [f"word{i}" for i in range(5_000)]


def gram_sets(texts: list[str], n: int = 3) -> list[frozenset[int]]:
    grams = ngrams(pl.Series(texts, dtype=pl.String), n, symbols=True)
    return [frozenset(each.tolist()) for each in np.split(grams.hashes, grams.offsets[1:-1])]


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    return len(a & b) / len(a | b)


def planted(n: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Texts of 100 words, and pairs of which the second is the first with one to nine words replaced."""
    dice = rng(3, "tests", "planted")
    texts = [" ".join(dice.choice(WORDS, 100)) for _ in range(n)]
    pairs = []
    for i in range(n):
        words = texts[i].split()
        words_at = dice.choice(100, int(dice.integers(1, 10)), replace=False)
        for at in words_at:
            words[at] = str(dice.choice(WORDS))
        pairs.append((i, len(texts)))
        texts.append(" ".join(words))
    return texts, pairs


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_planted_pairs_are_found_and_no_others(make_rows: Callable[..., Rows], threshold: float) -> None:
    texts, pairs = planted(600)
    sets = gram_sets(texts)
    original = NearDedup(threshold=threshold).originals(make_rows(texts, step=500))[1]
    near = [(a, b) for a, b in pairs if jaccard(sets[a], sets[b]) >= threshold]
    assert len(near) > 50
    assert np.mean([original[b] == a for a, b in near]) >= 0.99
    gone = np.flatnonzero(original != np.arange(len(texts))).tolist()
    assert all(jaccard(sets[i], sets[original[i]]) >= threshold - 1e-9 for i in gone)


def test_bands_reach_their_recall_at_the_threshold_itself(make_rows: Callable[..., Rows]) -> None:
    # 90 shared 1-grams of 100 different ones make 0.8 exactly: 90 + 90 words, 80 in common, 100 in all
    texts: list[str] = []
    dice = rng(4, "tests")
    for _ in range(500):
        words = dice.choice(WORDS, 100, replace=False)
        texts += [" ".join(words[:90]), " ".join(words[10:])]
    way = NearDedup(ngram=1)
    original = way.originals(make_rows(texts, step=500))[1]
    found = (original[1::2] == np.arange(0, 1_000, 2)).mean()
    bands, width = way.shape
    assert 1 - (1 - 0.8**width) ** bands >= 0.99
    assert found >= 0.98, "500 draws of a probability of 0.998"
    assert NearDedup(ngram=1, threshold=0.81).originals(make_rows(texts))[1].tolist() == list(range(1_000))


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(alphabet="ab ", max_size=9), min_size=1, max_size=14))
def test_a_threshold_of_one_means_equal_sets(make_rows: Callable[..., Rows], texts: list[str]) -> None:
    original = NearDedup(threshold=1).originals(make_rows(texts))[1]
    sets = gram_sets(texts)
    assert original.tolist() == [sets.index(each) for each in sets]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Yes.", "yes .", True),
        ("Yes.", "No.", False),
        ("yes", "yes yes", False),
        ("What is 3 + 4?", "What is 3 - 4?", False),
        ("今日は天気がとても良いので公園へ散歩に行った。", "今日は天気がとても良いので公園へ散歩に行った!", True),
        ("今日は天気がとても良いので公園へ行きました", "昨日は雨が降っていたから家で本を読んでいた", False),
        ("👍", "👎", False),
        (" ", "", True),
    ],
)  # fmt: skip
def test_short_texts_and_scripts_without_spaces(make_rows: Callable[..., Rows], one: str, other: str, alike: bool) -> None:
    assert (NearDedup().originals(make_rows([one, other]))[1].tolist() == [0, 0]) is alike


def test_a_chain_is_not_merged_by_its_ends(make_rows: Callable[..., Rows]) -> None:
    a = " ".join(WORDS[:60])
    b, c = (" ".join([*WORDS[k : 60 + k]]) for k in (5, 10))
    sets = gram_sets([a, b, c])
    assert jaccard(sets[0], sets[1]) >= 0.8 > jaccard(sets[0], sets[2])
    assert jaccard(sets[1], sets[2]) >= 0.8
    assert NearDedup().originals(make_rows([a, b, c]))[1].tolist() == [0, 0, 2]
    assert NearDedup().originals(make_rows([a, b, c], rank=[1, 0, 2]))[1].tolist() == [1, 1, 1]


def test_signatures_do_not_depend_on_slices(make_rows: Callable[..., Rows]) -> None:
    texts, _ = planted(40)
    one, other = (
        signatures(make_rows(texts, step=step).texts(), n=3, bands=4, width=5, seed=SEED, total=len(texts)) for step in (3, 80)
    )
    assert (one == other).all()


def test_bands_agree_with_the_probability_of_the_formula() -> None:
    dice = rng(5, "tests")
    texts = []
    for _ in range(400):
        words = dice.choice(WORDS, 60, replace=False)
        texts += [" ".join(words[:45]), " ".join(words[15:])]  # 30 of 60: J = 0.5
    hashed = signatures(iter([pl.Series(texts)]), n=1, bands=30, width=2, seed=SEED, total=len(texts))
    share = (hashed[:, ::2] == hashed[:, 1::2]).mean()
    assert abs(share - 0.25) < 0.02, "0.5 ** 2"


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), max_size=8))
def test_buckets_are_the_pairs_of_equal_bands(values: list[list[int]]) -> None:
    hashed = np.array(values, dtype=np.uint64).reshape(len(values), 3).T
    buckets = bucket_ids(hashed)
    for i, j in combinations(range(len(values)), 2):
        for band in range(3):
            together = buckets[i, band] == buckets[j, band] >= 0
            assert together == (values[i][band] == values[j][band])
    used = [set(buckets[:, band][buckets[:, band] >= 0].tolist()) for band in range(3)]
    assert not (used[0] & used[1])
    assert not (used[1] & used[2])
    assert not (used[0] & used[2])


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(alphabet="abc ", max_size=12), min_size=2, max_size=6))
def test_sets_on_disk_measure_as_sets_in_memory(texts: list[str]) -> None:
    expected = gram_sets(texts, 2)
    with Sets(iter([pl.Series(texts[:1]), pl.Series(texts[1:])]), n=2, total=len(texts)) as sets:
        found = sets.jaccard(0, np.arange(1, len(texts)))
    assert found.tolist() == pytest.approx([jaccard(expected[0], each) for each in expected[1:]])


def test_a_crowd_that_shares_buckets_is_bounded(make_rows: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "CROWD", 8)
    dice = rng(6, "tests")
    frame = dice.choice(WORDS, 40, replace=False)
    crowd = [" ".join([*frame, *dice.choice(WORDS, 12)]) for _ in range(60)]  # a common beginning, J about 0.6
    copies = [text.replace(frame[3], "other") for text in crowd[::10]]
    original = NearDedup().originals(make_rows([*crowd, *copies]))[1]
    sets = gram_sets([*crowd, *copies])
    gone = np.flatnonzero(original != np.arange(len(original))).tolist()
    assert all(jaccard(sets[i], sets[original[i]]) >= 0.8 for i in gone)
    assert original[60] == 0, "what shares most buckets is looked at first"


def test_a_row_of_a_million_characters(make_rows: Callable[..., Rows]) -> None:
    dice = rng(7, "tests")
    long = " ".join(dice.choice(WORDS, 120_000))
    assert len(long) > 1_000_000
    original = NearDedup().originals(make_rows(["short", long, long[:-60], "another"]))[1]
    assert original.tolist() == [0, 1, 1, 3]


@pytest.mark.skipif(not DATA.exists(), reason="shared/data is absent")
def test_real_rows_against_all_pairs(make_rows: Callable[..., Rows]) -> None:
    frame = pl.read_parquet(DATA / "domains/law.parquet").head(700)
    texts = frame.select(pl.concat_str("instruction", "input", "output", separator="\n")).to_series().to_list()
    sets = gram_sets(texts)
    original = NearDedup(threshold=0.7).originals(make_rows(texts, step=200))[1]
    stays: list[int] = []
    for i in range(len(texts)):
        if not any(jaccard(sets[i], sets[j]) >= 0.7 for j in stays):
            stays.append(i)
    kept = set(np.flatnonzero(original == np.arange(len(texts))).tolist())
    assert 0 < len(texts) - len(stays) < len(texts)
    assert len(kept ^ set(stays)) <= 0.02 * (len(texts) - len(stays)) + 1, "recall 0.99 of the copies"
