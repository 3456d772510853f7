"""N-grams are counted in words of any script, and hashed alike wherever they stand."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.dedup import ngrams as module
from composer.dedup.ngrams import chunks, ngrams, words

TEXT = st.text(alphabet="ab cD,+\n漢字é", max_size=14)


def said(text: str, *, symbols: bool = True) -> list[str]:
    return words(pl.Series([text]), symbols=symbols)[0].to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  CAT\n\tsat", ["the", "cat", "sat"]),
        ("x=3+4", ["x", "=", "3", "+", "4"]),
        ("don't", ["don", "'", "t"]),
        ("naïve Éa", ["naïve", "éa"]),
        ("東京へ行く", ["東", "京", "へ", "行", "く"]),
        ("GPT東京4", ["gpt", "東", "京", "4"]),
        ("👍👍", ["👍", "👍"]),
        ("a\u00a0b\u3000c", ["a", "b", "c"]),
        (" \n", []),
        ("", []),
    ],
)
def test_words_of_many_scripts(text: str, expected: list[str]) -> None:
    assert said(text) == expected
    assert said(text, symbols=False) == [word for word in expected if word[0].isalnum()]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, max_size=8), n=st.integers(1, 5), seed=st.integers(0, 3))
def test_grams_are_the_polynomials_of_the_words(texts: list[str], n: int, seed: int) -> None:
    grams = ngrams(pl.Series(texts, dtype=pl.String), n, symbols=True, seed=seed)
    found = [grams.hashes[a:b].tolist() for a, b in zip(grams.offsets[:-1], grams.offsets[1:], strict=True)]
    expected = []
    for text in texts:
        hashes = pl.Series(said(text), dtype=pl.String).hash(seed).to_list()
        of_text = []
        for i in range(max(len(hashes) - n + 1, 1)):
            total = 0
            for value in hashes[i : i + n]:
                total = (total * 0x9E3779B97F4A7C15 + value) % 2**64
            of_text.append(total)
        expected.append(of_text)
    assert found == expected


def test_order_and_symbols_tell_grams_apart() -> None:
    grams = ngrams(pl.Series(["a b", "b a", "3 + 4", "3 - 4"]), 3, symbols=True)
    assert len(set(grams.hashes.tolist())) == 4
    assert len(set(ngrams(pl.Series(["3 + 4", "3 - 4"]), 3, symbols=False).hashes.tolist())) == 1


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 9), max_size=12))
def test_chunks_hold_every_text_once(sizes: list[int]) -> None:
    texts = pl.Series([f"{i % 10}" * size for i, size in enumerate(sizes)], dtype=pl.String)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", 8)
        found = list(chunks(texts))
    assert [text for chunk in found for text in chunk] == texts.to_list()
    assert all(len(chunk) == 1 or chunk.str.len_bytes().sum() < 8 + 9 for chunk in found)
