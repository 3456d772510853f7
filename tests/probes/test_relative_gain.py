"""The relative gain of a sequence: against single-task experts as published, or against each domain's own stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import InputError
from probes.retention import Stage, Summary, retention


def summary(exact: float) -> Summary:
    return Summary(loss_nats_per_token=1.0, stderr=None, exact_match=exact, exact_stderr=None, n=1, n_loss_tokens=1)


def stage(name: str, current: Sequence[str], exact: Mapping[str, float]) -> Stage:
    return Stage(name=name, current=current, domains={domain: summary(value) for domain, value in exact.items()})


# Two tasks whose scores after the third stage are 40 and 30, the example of InsCL's measure.
THREE = [
    stage("before", [], {"a": 0.0, "b": 0.0, "c": 0.0}),
    stage("a", ["a"], {"a": 0.8, "b": 0.0, "c": 0.0}),
    stage("b", ["b"], {"a": 0.25, "b": 0.6, "c": 0.0}),
    stage("c", ["c"], {"a": 0.4, "b": 0.3, "c": 0.9}),
]
EXPERTS = {"a": summary(0.5), "b": summary(0.4), "c": summary(1.0)}


def percents(found: Mapping[str, list[dict[str, float | None]]]) -> list[float | None]:
    return [each["percent"] for each in found["relative_gain"]]


def test_an_expert_is_the_upper_bound() -> None:
    found = retention(THREE, experts=EXPERTS)
    assert found["upper"] == "expert"
    assert percents(found) == pytest.approx([100, 100, 50, 77.5])
    assert [each["n_domains"] for each in found["relative_gain"]] == [0, 0, 1, 2]


def test_without_experts_the_own_stage_stands_in() -> None:
    found = retention(THREE)
    assert found["upper"] == "own stage"
    assert percents(found) == pytest.approx([100, 100, 100 * 0.25 / 0.8, 100 * (0.4 / 0.8 + 0.3 / 0.6) / 2])


def test_experts_change_nothing_but_the_gain() -> None:
    one, other = retention(THREE), retention(THREE, experts=EXPERTS)
    assert {key for key in one if one[key] != other[key]} == {"upper", "experts", "relative_gain", "mean_relative_gain"}
    assert other["experts"] == {domain: expert["exact_match"] for domain, expert in EXPERTS.items()}


def test_the_mean_is_over_the_stages_of_training() -> None:
    found = retention(THREE, experts=EXPERTS)["mean_relative_gain"]
    assert found["percent"] == pytest.approx((100 + 50 + 77.5) / 3)
    assert found["std_percent"] ** 2 == pytest.approx(
        ((100 - 227.5 / 3) ** 2 + (50 - 227.5 / 3) ** 2 + (77.5 - 227.5 / 3) ** 2) / 3
    )
    assert found["n_stages"] == 3
    assert retention(THREE[:1])["mean_relative_gain"] == {"percent": None, "std_percent": None, "n_stages": 0}


def test_an_expert_that_knows_nothing_gives_no_ratio() -> None:
    found = retention(THREE, experts={**EXPERTS, "a": summary(0.0)})
    assert percents(found) == [100, 100, None, pytest.approx(75)]
    assert [each["n_domains"] for each in found["relative_gain"]] == [0, 0, 0, 1]
    assert found["mean_relative_gain"]["n_stages"] == 2


def test_an_expert_bounds_a_domain_that_its_own_stage_did_not_measure() -> None:
    stages = [*THREE[:1], stage("a", ["a"], {"b": 0.0}), *THREE[2:]]
    assert percents(retention(stages))[2] is None
    assert percents(retention(stages, experts=EXPERTS))[2] == pytest.approx(50)


def test_the_domains_of_a_group_count_one_by_one() -> None:
    stages = [stage("a+b", ["a", "b"], {"a": 0.5, "b": 0.4, "c": 0.0}), stage("c", ["c"], {"a": 0.4, "b": 0.3, "c": 0.9})]
    found = retention(stages)
    assert percents(found) == pytest.approx([100, 77.5])
    assert found["relative_gain"][1]["n_domains"] == 2
    assert found["current"] == [["a", "b"], ["c"]]


def test_a_domain_that_is_trained_on_again_is_not_an_earlier_one() -> None:
    stages = [*THREE, stage("a again", ["a"], {"a": 0.9, "b": 0.2, "c": 0.5})]
    assert percents(retention(stages, experts=EXPERTS))[4] == pytest.approx(100 * (0.2 / 0.4 + 0.5 / 1.0) / 2)


def test_a_missing_expert_is_named() -> None:
    with pytest.raises(InputError, match=r"experts: a domain has no expert; expected b; got a, c; measure an expert of every"):
        retention(THREE, experts={"a": EXPERTS["a"], "c": EXPERTS["c"]})
    assert retention(THREE, experts={"a": EXPERTS["a"], "b": EXPERTS["b"]})["upper"] == "expert"  # c is never an earlier one


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1), st.floats(0.1, 3)), min_size=1, max_size=5))
def test_the_gain_is_a_ratio(rows: list[tuple[float, float, float]]) -> None:
    names = [f"t{i}" for i in range(len(rows))]
    end = {name: score for name, (score, _, _) in zip(names, rows, strict=True)}
    upper = {name: summary(best) for name, (_, best, _) in zip(names, rows, strict=True)}
    stages = [stage("all", names, dict.fromkeys(names, 0.5)), stage("last", ["z"], {**end, "z": 1.0})]
    gain = percents(retention(stages, experts=upper))[1]
    assert gain == pytest.approx(100 * sum(score / best for score, best, _ in rows) / len(rows))
    halved = {name: summary(each["exact_match"] / 2) for name, each in upper.items()}
    assert percents(retention(stages, experts=halved))[1] == pytest.approx(2 * gain)
    same = {name: summary(value) for name, value in end.items() if value > 0}
    kept = [stage("all", list(same), dict.fromkeys(same, 0.5)), stages[1]]
    assert percents(retention(kept, experts=same))[1] == pytest.approx(100)
