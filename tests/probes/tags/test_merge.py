"""Near tags go by one name, in every cluster and in any order, and noise keeps its own."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.errors import SpecError
from probes.embed import Embedder
from probes.tags.merge import Merge

# A cosine distance of 0.1 is an angle of 25.8 degrees.
CLUSTERS = [[f"{word} {angle + k}" for k in range(5)] for word, angle in (("sort", 0), ("translate", 100), ("summarise", 200))]
MODEL = {"name": "sentence_transformer", "model": "m"}
NOISE = ["rare 50", "rare 150", "rare 300"]


@pytest.fixture
def merge(planted: Embedder) -> Merge:
    return Merge(embed=planted)


def test_every_cluster_goes_by_its_most_frequent_member_the_last_one_too(merge: Merge) -> None:
    counts = {tag: 1 for tags in CLUSTERS for tag in tags} | dict.fromkeys(NOISE, 9)
    counts |= {"sort 3": 4, "translate 104": 2, "summarise 202": 7}
    names = merge.names(counts)
    assert [{names[tag] for tag in tags} for tags in CLUSTERS] == [{"sort 3"}, {"translate 104"}, {"summarise 202"}]
    assert [names[tag] for tag in NOISE] == NOISE


def test_of_equally_frequent_members_the_first_in_the_alphabet_names_the_cluster(merge: Merge) -> None:
    counts = {"b 1": 2, "a 2": 2, "c 3": 2, "d 4": 1, "e 5": 1}
    assert set(merge.names(counts).values()) == {"a 2"}


def test_fewer_near_tags_than_min_samples_are_not_merged(merge: Merge) -> None:
    counts = dict.fromkeys(CLUSTERS[0][:4], 1)
    assert merge.names(counts) == {tag: tag for tag in counts}
    fewer = merge.model_copy(update={"min_samples": 4})
    assert set(fewer.names(counts).values()) == {"sort 0"}


def test_a_border_tag_is_of_its_cluster_and_eps_decides_what_is_near(merge: Merge) -> None:
    counts = {**dict.fromkeys(CLUSTERS[0], 2), "border 29": 1, "beyond 31": 1}
    names = merge.names(counts)
    assert (names["border 29"], names["beyond 31"]) == ("sort 0", "beyond 31")
    wider = merge.model_copy(update={"eps": 0.2})  # 36.9 degrees
    assert wider.names(counts)["beyond 31"] == "sort 0"


def test_the_order_of_the_tags_does_not_matter(merge: Merge) -> None:
    tags = [tag for cluster in CLUSTERS for tag in cluster] + NOISE
    counts = {tag: len(tag) % 3 for tag in tags}
    shuffled = random.Random(5).sample(tags, len(tags))
    assert merge.names({tag: counts[tag] for tag in shuffled}) == merge.names(counts)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(0, 359).map("t {}".format), st.integers(1, 3), max_size=40))
def test_merging_twice_changes_nothing(merge: Merge, counts: dict[str, int]) -> None:
    names = merge.names(counts)
    assert names.keys() == counts.keys()
    again = dict.fromkeys(names.values(), 0)
    for tag, name in names.items():
        again[name] += counts[tag]
    assert merge.names(again) == {name: name for name in again}


def test_no_tags_have_no_names(merge: Merge) -> None:
    assert merge.names({}) == {}
    assert merge.names({}, known=["sort 1"]) == {}


def test_a_tag_near_a_known_name_goes_by_the_nearest_and_is_not_clustered(merge: Merge) -> None:
    counts = {**dict.fromkeys(CLUSTERS[0], 1), "new 20": 1, "far 80": 1, "known 12": 1}
    names = merge.names(counts, known=["known 12", "other 30", "aaa 250"])
    assert {names[tag] for tag in CLUSTERS[0]} == {"known 12"}
    assert (names["new 20"], names["far 80"], names["known 12"]) == ("known 12", "far 80", "known 12")
    assert merge.names({"new 21": 1}, known=["known 12", "other 30"]) == {"new 21": "known 12"}  # of equals the first
    assert merge.names({"new 22": 1}, known=["known 12", "other 30"]) == {"new 22": "other 30"}


def test_many_tags_are_compared_block_by_block(merge: Merge, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {f"t {i / 10}": 1 for i in range(900)}
    known = [f"k {i}" for i in range(0, 60, 7)]
    whole = merge.names(counts, known=known)
    monkeypatch.setattr("composer.neighbours.BLOCK", 7)
    assert merge.names(counts, known=known) == whole
    assert whole["t 6.9"] == "k 7"


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({}, "embed: missing field of Merge"),
        ({"embed": "lexical"}, "embed: cannot tell tags apart; expected an embedder that knows meanings, .*; got lexical"),
        ({"embed": "planed"}, "embed.name: unknown embedder 'planed'"),
        ({"embed": MODEL, "eps": 0}, "eps: input should be greater than 0"),
        ({"embed": MODEL, "min_samples": 0}, "min_samples: input should be greater than or equal to 1"),
        ({"embed": MODEL, "epsilon": 1}, "epsilon: unknown field of Merge"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, object], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        Merge(**fields)
