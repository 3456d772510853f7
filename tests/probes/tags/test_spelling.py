"""A tag has one spelling: letters of every script stay, and words come to their lemmas where languages are named."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import SpecError
from probes.tags.spelling import normalise, speller


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert "  " not in once
    assert once == once.strip()


def test_letters_and_digits_of_every_script_stay() -> None:
    assert normalise("ТЕКСТ-анализ 3") == "текст анализ 3"
    assert normalise("हिन्दी अनुवाद") == "हिन्दी अनुवाद"
    assert normalise("数学＃１２") == "数学 12"
    assert normalise("_?_") == ""


def test_without_languages_a_tag_is_only_normalised() -> None:
    assert speller()("Sorted Lists!") == "sorted lists"


def test_inflections_have_one_spelling() -> None:
    pytest.importorskip("simplemma", reason="lemmas need the extra")
    spell = speller(("en",))
    assert spell("Translations") == spell("translation") == "translation"
    assert spell("Sorting lists") == spell("sort list") == "sort list"
    assert spell("text-classification, 3 Classes") == "text classification 3 class"
    assert spell("") == spell("?!") == ""


def test_languages_are_asked_in_turn_and_unknown_words_stay() -> None:
    pytest.importorskip("simplemma", reason="lemmas need the extra")
    assert speller(("en", "de"))("übersetzungen") == "übersetzung"
    assert speller(("ru",))("переводы текстов") == "перевод текст"
    assert speller(("en",))("数学 переводы xqzzt") == "数学 переводы xqzzt"


AMBIGUOUS = ["axes", "leaves", "found", "lay", "better", "data", "media", "saw", "left", "rose", "wound", "worse"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(AMBIGUOUS) | st.text(max_size=8), max_size=4))
def test_spelling_twice_changes_nothing(words: list[str]) -> None:
    pytest.importorskip("simplemma", reason="lemmas need the extra")
    spell = speller(("en",))
    once = spell(" ".join(words))
    assert spell(once) == once == normalise(once)


def test_words_that_lead_to_each_other_have_one_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    circle = {"b": "c", "c": "a", "a": "b", "x": "c", "y": "two words"}
    fake = type(sys)("simplemma")
    fake.lemmatize = lambda word, lang: circle.get(word, word)  # type: ignore[attr-defined]  # noqa: ARG005
    monkeypatch.setitem(sys.modules, "simplemma", fake)
    spell = speller(("en",))
    assert [spell(word) for word in ("a", "b", "c", "x", "y")] == ["a", "a", "a", "a", "y"]


def test_a_language_without_a_dictionary_is_refused() -> None:
    pytest.importorskip("simplemma", reason="lemmas need the extra")
    with pytest.raises(SpecError, match=r"tags.lemmas: no dictionary; expected languages of simplemma.*; got en, klingon"):
        speller(("en", "klingon"))


def test_lemmas_without_the_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplemma", None)
    with pytest.raises(
        SpecError, match=r"tags.lemmas: lemmas need the package simplemma; pip install 'sft-composer\[lemmas\]'"
    ):
        speller(("en",))
