"""Tags are normalised without loss of letters, and a tagger depends on the texts alone."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import SpecError
from probes.tags import TAGGERS, Tagger, normalise
from probes.tags.keyphrase import Keyphrase

TASKS = Path(__file__).parents[3] / "../shared/data/tasks"
TEXTS = [
    "Translate the following sentence into German.",
    "Translate the following sentence into French.",
    "Write a Python function that sorts a list of numbers.",
    "Write a Python function that reverses a list of numbers.",
    "Is the review positive or negative? Answer with one word.",
    "42, 43 and 44?",
    "...",
]


@pytest.fixture(params=sorted(TAGGERS))
def each(request: pytest.FixtureRequest) -> Tagger:
    return TAGGERS[request.param]()


def test_tags_are_normal_and_distinct(each: Tagger) -> None:
    for tags in each.tag(TEXTS):
        assert len(set(tags)) == len(tags)
        assert all(tag and normalise(tag) == tag for tag in tags)


def test_tags_do_not_depend_on_order_or_repetition(each: Tagger) -> None:
    shuffled = TEXTS * 2
    random.Random(3).shuffle(shuffled)
    tags = dict(zip(shuffled, each.tag(shuffled), strict=True))
    assert [tags[text] for text in TEXTS] == each.tag(TEXTS)


def test_no_texts_have_no_tags(each: Tagger) -> None:
    assert each.tag([]) == []


def test_the_best_phrases_come_first() -> None:
    tags = Keyphrase().tag(TEXTS)
    assert tags[0] == ("translate the following", "following sentence")
    assert "python function" in tags[2]
    assert tags[5] == tags[6] == ()


def test_a_text_that_shares_nothing_keeps_phrases_of_its_own() -> None:
    assert Keyphrase(top=2).tag(TEXTS)[4] == ("positive or negative", "review positive")
    assert Keyphrase(top=1, min_texts=1).tag(["rare bird", "common bird"]) == [("rare bird",), ("common bird",)]


def test_numbers_and_stop_words_are_no_tags() -> None:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    tags = Keyphrase(min_texts=1, top=50).tag(["Don't list the 3 apples in the box of 1999.", "It's 7 and it isn't 12."])
    every = [tag for own in tags for tag in own]
    assert every
    assert all(re.search("[a-z]", tag) for tag in every)
    assert not {word for tag in every for word in (tag.split()[0], tag.split()[-1])} & (ENGLISH_STOP_WORDS | {"t", "s"})


def test_a_phrase_stays_within_its_sentence_and_no_tag_lies_inside_another() -> None:
    tags = Keyphrase(min_texts=1, top=50).tag(["drink water. list rivers", "sort binary search tree"])
    assert not any("water list" in tag for tag in tags[0])
    assert not any(a != b and f" {a} " in f" {b} " for own in tags for a in own for b in own)


def test_top_bounds_the_tags() -> None:
    assert [len(tags) for tags in Keyphrase(top=1).tag(TEXTS)] == [1, 1, 1, 1, 1, 0, 0]
    with pytest.raises(SpecError, match="top: input should be greater than or equal to 1"):
        Keyphrase(top=0)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert "  " not in once
    assert once == once.strip()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=6))
def test_any_text_can_be_tagged(texts: list[str]) -> None:
    tags = Keyphrase().tag(texts)
    assert len(tags) == len(texts)
    assert all(normalise(tag) == tag for own in tags for tag in own)


def test_letters_and_digits_of_every_script_stay() -> None:
    assert normalise("ТЕКСТ-анализ 3") == "текст анализ 3"
    assert normalise("हिन्दी अनुवाद") == "हिन्दी अनुवाद"
    assert normalise("数学＃１２") == "数学 12"
    assert normalise("_?_") == ""


@pytest.mark.skipif(not TASKS.is_dir(), reason="needs shared/data beside the repository")
def test_real_instructions_are_tagged_in_seconds() -> None:
    rows = pl.concat([pl.read_parquet(path) for path in sorted(TASKS.glob("*.parquet"))[:4]])
    instructions = rows["instruction"].unique(maintain_order=True).to_list()
    tags = Keyphrase().tag(instructions)
    assert all(tags)
    assert len({tag for own in tags for tag in own}) > len(instructions) / 4
    many = [f"{text} {i % 97}" for i in range(10_000 // len(instructions) + 1) for text in instructions]
    begun = time.process_time()
    Keyphrase().tag(many)
    assert time.process_time() - begun < 15
