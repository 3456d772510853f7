"""A cluster's name is what tells it from the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.cluster.naming import name_clusters
from composer.errors import SpecError

few = settings(max_examples=60, deadline=None)
TAGGED = st.lists(st.tuples(st.integers(-1, 3), st.lists(st.sampled_from("abcde"), max_size=3)), max_size=25)


def test_the_most_telling_tag_is_frequent_inside_and_rare_outside():
    tags = [["write", "poem"], ["write", "poem"], ["write", "ode"], ["write", "code"], ["write", "code"]]
    assert name_clusters([0, 0, 0, 1, 1], tags) == ["poem", "code"]  # 2 ln(5/3) > ln(5/3); "write" tells nothing
    assert name_clusters([0, 0, 0, 1, 1], [[t] for t in "aabbb"]) == ["a", "b"]  # 2 ln(5/3) > ln(5/9)


def test_a_single_cluster_goes_by_its_most_frequent_tag_then_the_alphabet():
    assert name_clusters([0, 0, 0], [["b", "a"], ["b"], ["a"]]) == ["a"]
    assert name_clusters([0, 0, 0], [["b", "a"], ["b"], ["c"]]) == ["b"]


def test_a_name_that_is_taken_grows_by_the_next_tag_then_a_number():
    assert name_clusters([0, 0, 1, 1], [["a"], ["a"], ["a", "b"], ["a"]]) == ["a", "b"]
    assert name_clusters([0, 0, 1], [["a", "b"], ["a", "b"], ["a", "b"]]) == ["a", "a, b"]
    assert name_clusters([0, 1, 2, 3], [["a"]] * 4) == ["a", "a (2)", "a (3)", "a (4)"]


def test_clusters_without_tags_are_untagged_and_noise_has_no_name():
    assert name_clusters([0, 1, -1, 2], [[], [""], ["noise"], ["tag"]]) == ["untagged", "untagged (2)", "tag"]
    assert name_clusters([-1, -1], [["a"], ["b"]]) == []
    assert name_clusters([], []) == []


def test_a_tag_that_is_repeated_in_one_instruction_counts_once():
    labels = [0, 0, 0, 1, 1]
    assert name_clusters(labels, [["a"] * 9, ["b"], ["b"], ["c"], ["c"]]) == ["b", "c"]


@given(TAGGED)
@few
def test_names_are_distinct_and_one_for_each_cluster(rows):
    labels, tags = [label for label, _ in rows], [own for _, own in rows]
    names = name_clusters(labels, tags)
    assert len(names) == len(set(names)) == max(labels, default=-1) + 1
    order = np.random.default_rng(0).permutation(len(rows))
    assert name_clusters([labels[i] for i in order], [tags[i] for i in order]) == names


def test_tags_of_other_labels_are_refused():
    with pytest.raises(SpecError, match="tags: tags of other labels; expected 2 of them; got 1"):
        name_clusters([0, 1], [["a"]])
