"""What the demo says of its runs follows from their reports."""

from __future__ import annotations

import pytest

from flows.demo import story
from flows.recipe import read_recipe


def report(exact: list[list[float]]) -> dict[str, object]:
    domains = ["a", "b", "science"]
    return {"stages": ["before", "b", "a", "science"], "domains": domains, "exact_match": exact, "loss_nats_per_token": exact}


def test_own_and_end_follow_the_order_of_training() -> None:
    rows = [[0.0, 0.0, 0.0], [0.1, 0.8, 0.1], [0.5, 0.4, 0.2], [0.25, 0.2, 0.9]]
    found = story._forgetting(report(rows))
    assert found["own"] == {"b": 0.8, "a": 0.5, "science": 0.9}
    assert found["end"] == {"b": 0.2, "a": 0.25, "science": 0.9}
    assert found["kept"] == pytest.approx((0.2 / 0.8 + 0.25 / 0.5) / 2)


def test_kept_is_unsaid_where_nothing_was_learned() -> None:
    assert story._forgetting(report([[0.0] * 3] * 4))["kept"] is None


def test_degradation_sets_the_target_apart() -> None:
    rows = [[0.2, 0.4, 0.1], [0.0] * 3, [0.0] * 3, [0.1, 0.1, 0.7]]
    found = story._degradation(report(rows))
    assert found["before_exact_match"] == {"target": 0.1, "others": pytest.approx(0.3)}
    assert found["after_exact_match"] == {"target": 0.7, "others": pytest.approx(0.1)}


def test_arms_differ_in_what_they_are_named_for() -> None:
    from pathlib import Path

    recipes = {
        word: read_recipe(story.RECIPES / "tasks.yaml", story._policy(word))
        for word in ("none", "random", "stratified", "distance")
    }
    assert {word: recipe.replay.name for word, recipe in recipes.items()} == {word: word for word in recipes}
    assert {recipe.replay.per_task for word, recipe in recipes.items() if word != "none"} == {20}
    half = read_recipe(story.RECIPES / "domains.yaml", story._expansion(Path("m"), 0.5))
    assert half.law.identity()["weights"]["science"] == 0.5
    assert sum(half.law.identity()["weights"].values()) == pytest.approx(1)
    assert half.probe is None
