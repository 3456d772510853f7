"""A composition is what was planned to within half a row, in the order of the phases, fair in every prefix, accounted for."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.compose import compose
from composer.errors import InputError
from composer.replay import REPLAY
from composer.replay.schedule import plan
from composer.select import SELECTORS
from composer.spec import rng
from composer.tables import COMPOSITION, SAMPLE, check
from composer.types import Budget, Mixture, Phase, Schedule

DOMAINS = ("a", "b", "c")
UNITS = ("samples", "tokens", "loss_tokens")
COLUMN = {
    "samples": pl.col("domain").is_not_null().cast(pl.Int64),
    "tokens": pl.col("n_tokens"),
    "loss_tokens": pl.col("n_loss_tokens"),
}
UNIFORM, SPREAD = SELECTORS["uniform"](), SELECTORS["instruction"](score="uniform")
few = settings(max_examples=20, deadline=None)


def samples(rows, *, seed=0, role="target"):
    generator = rng(seed, "samples")
    domain = [name for name, n in rows.items() for _ in range(n)]
    n = len(domain)
    loss = generator.integers(1, 60, n)
    frame = pl.DataFrame({
        "sample_id": [f"{k:016x}" for k in generator.permutation(100_000)[:n]],
        "source": [f"{name}-source" for name in domain],
        "domain": domain,
        "role": [role] * n,
        "instruction_id": [f"{name}{i}" for name, i in zip(domain, generator.integers(0, 5, n), strict=True)],
        "messages": [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]] * n,
        "n_tokens": loss + generator.integers(1, 90, n),
        "n_loss_tokens": loss,
        "license": ["mit"] * n,
        "source_revision": ["r"] * n,
        "extras": pl.Series([None] * n, dtype=pl.String),
    })  # fmt: skip
    return check(frame.cast({"n_tokens": pl.UInt32, "n_loss_tokens": pl.UInt32}), SAMPLE, where="test")


POOL = samples({"a": 300, "b": 200, "c": 100})


def supply(frame, unit):
    return dict(frame.group_by("domain").agg(COLUMN[unit].cast(pl.Int64).sum().alias("n")).iter_rows())


def one_phase(amount, weights, *, unit="loss_tokens", current=None):
    names = DOMAINS[: len(weights)]
    mixture = Mixture(domains=names, weights=weights, unit=unit)
    return Schedule(phases=(Phase(name="all", amount=amount, mixture=mixture, current=current or names),))


def sequence(unit="loss_tokens", *, per_task=300, frame=POOL, amount=None):
    mixture = Mixture(domains=DOMAINS, weights=(0.2, 0.3, 0.5), unit=unit)
    return plan(
        [("a",), ("b",), ("c",)],
        mixture=mixture,
        supply=supply(frame, unit),
        earlier=(),
        policy=REPLAY["random"](per_task=per_task),
        budget=Budget(unit=unit, amount=amount),
        similarity=None,
    )


def made(schedule, frame=POOL, **changes):
    options = {"domains": DOMAINS, "select": UNIFORM, "replay_select": SPREAD, "max_repeats": 1, "seed": 7}
    return compose(schedule, frame, **{**options, **changes})


def accounts(report):
    return [line for phase in report["phases"] for line in phase["domains"]]


@pytest.mark.parametrize("unit", UNITS)
@given(w=st.lists(st.floats(0.01, 1), min_size=3, max_size=3), share=st.floats(0.05, 0.9), seed=st.integers(0, 99))
@few
def test_every_domain_is_within_half_a_row_of_its_target(unit, w, share, seed):
    there = supply(POOL, unit)
    amount = int(share * sum(there.values()))
    made_ = made(one_phase(amount, tuple(np.array(w) / sum(w)), unit=unit), seed=seed)
    realised = supply(made_.frame, unit)
    for line in accounts(made_.report):
        assert line["target"] <= there[line["domain"]]
        assert line["realised"] == realised.get(line["domain"], 0)
        assert line["off_by"] == line["realised"] - line["target"]
        assert abs(line["off_by"]) <= line["largest_row"] / 2
        assert line["largest_row"] == (POOL.filter(domain=line["domain"]).select(COLUMN[unit].max()).item())
    assert sum(line["target"] for line in accounts(made_.report)) == amount
    assert sum(line["planned"] for line in accounts(made_.report)) == amount


def test_every_row_is_traced_to_a_sample_and_comes_once():
    frame = made(sequence()).frame
    check(frame, COMPOSITION, where="test")
    same = ["sample_id", "source", "domain", "n_tokens", "n_loss_tokens"]
    assert frame.join(POOL, on=same, how="semi").height == frame.height
    assert POOL[frame["row"]].select(same).equals(frame.select(same))
    assert frame["position"].to_list() == list(range(frame.height))
    assert frame["phase"].is_sorted()
    assert not frame.filter(~pl.col("is_replay"))["sample_id"].is_duplicated().any()
    assert not frame.select("phase", "sample_id").is_duplicated().any()
    assert frame["repeat"].max() == 0


def test_without_a_budget_every_row_is_new_once_and_replay_is_what_the_policy_said():
    made_ = made(sequence(per_task=300))
    new = made_.frame.filter(~pl.col("is_replay"))
    assert sorted(new["sample_id"]) == sorted(POOL["sample_id"])
    replayed = made_.frame.filter("is_replay").group_by("phase", "domain").agg(pl.col("n_loss_tokens").sum())
    assert sorted((p, d) for p, d, _ in replayed.iter_rows()) == [(1, "a"), (2, "a"), (2, "b")]
    assert all(abs(n - 300) <= 30 for *_, n in replayed.iter_rows())
    assert made_.report["shortages"] == []


def test_each_stage_replays_its_own_draw():
    frame = made(sequence("samples", per_task=100)).frame.filter(is_replay=True, domain="a")
    first, second = (set(frame.filter(phase=phase)["sample_id"]) for phase in (1, 2))
    assert len(first) == len(second) == 100
    assert first != second


def test_replay_is_chosen_by_the_replay_selector():
    frame = made(sequence("samples", per_task=100)).frame
    instruction = dict(POOL.select("sample_id", "instruction_id").iter_rows())
    replayed = frame.filter(is_replay=True, phase=1)["sample_id"].to_list()
    _, counts = np.unique([instruction[i] for i in replayed], return_counts=True)
    assert counts.tolist() == [20] * 5  # spread evenly over five instructions


def test_repeats_are_whole_passes_and_bounded():
    there = supply(POOL, "loss_tokens")
    made_ = made(one_phase(int(2.5 * there["c"]), (0.0, 0.0, 1.0)), max_repeats=3)
    counts = made_.frame["repeat"].value_counts().sort("repeat")
    assert counts["repeat"].to_list() == [0, 1, 2]
    assert counts["count"].to_list()[:2] == [100, 100]
    assert 30 < counts["count"][2] < 70
    assert not made_.frame.select("sample_id", "repeat").is_duplicated().any()
    assert made_.frame["repeat"].is_sorted()  # a row does not come again before all others came
    orders = [made_.frame.filter(repeat=k)["sample_id"].to_list() for k in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_a_shortage_goes_to_the_others_and_is_reported():
    there = supply(POOL, "samples")
    made_ = made(one_phase(400, (0.25, 0.25, 0.5), unit="samples"))
    assert there["c"] == 100
    assert supply(made_.frame, "samples") == {"a": 150, "b": 150, "c": 100}
    assert made_.report["shortages"] == [{"phase": "all", "domain": "c", "planned": 200, "available": 100, "moved": 100}]
    assert {line["domain"]: line["off_by"] for line in accounts(made_.report)} == {"a": 0, "b": 0, "c": 0}


def test_what_nobody_has_is_not_made_up():
    made_ = made(one_phase(1000, (0.5, 0.3, 0.2), unit="samples"))
    assert made_.frame.height == 600
    assert sum(s["moved"] for s in made_.report["shortages"]) == 0
    assert sum(s["planned"] - s["available"] for s in made_.report["shortages"]) == 400


def test_a_domain_without_rows_is_a_shortage():
    made_ = made(one_phase(100, (0.5, 0.5), unit="samples"), frame=samples({"a": 300}))
    assert made_.report["shortages"] == [{"phase": "all", "domain": "b", "planned": 50, "available": 0, "moved": 50}]
    assert supply(made_.frame, "samples") == {"a": 100}


def test_a_shortage_of_new_data_never_inflates_replay():
    schedule = one_phase(200, (0.25, 0.0, 0.75), unit="samples", current=("c",))
    made_ = made(schedule)
    assert supply(made_.frame, "samples") == {"a": 50, "c": 100}
    assert made_.report["shortages"] == [{"phase": "all", "domain": "c", "planned": 150, "available": 100, "moved": 0}]


def test_a_replayed_row_comes_once_however_often_new_ones_may():
    schedule = one_phase(600, (0.5, 0.0, 0.5), unit="samples", current=("c",))
    frame = made(schedule, frame=samples({"a": 200, "c": 200}), max_repeats=4).frame
    assert frame.filter("is_replay")["repeat"].unique().to_list() == [0]
    assert supply(frame, "samples") == {"a": 200, "c": 300}


@given(seed=st.integers(0, 50))
@few
def test_every_prefix_has_the_mixture(seed):
    frame = made(one_phase(240, (0.5, 1 / 3, 1 / 6), unit="samples"), seed=seed).frame
    for name, n in {"a": 120, "b": 80, "c": 40}.items():
        had = (frame["domain"] == name).cum_sum().to_numpy()
        share = np.arange(1, 241) * n / 240
        assert np.abs(had - share).max() <= 1 + n / 240 + 1e-9


def test_the_order_within_a_domain_is_not_the_selectors():
    frame = made(one_phase(200, (1.0,), unit="samples")).frame
    assert sorted(frame["rank"]) == list(range(200))
    assert not frame["rank"].is_sorted()


def test_the_rank_is_the_place_in_the_selectors_order():
    class ById:
        def order(self, rows, *, context, n, seed):  # noqa: ARG002
            return rows.rows["sample_id"].arg_sort().to_numpy().astype(np.int64)

    frame = made(one_phase(50, (1.0,), unit="samples"), select=ById()).frame
    assert frame.sort("rank")["sample_id"].to_list() == sorted(POOL.filter(domain="a")["sample_id"])[:50]


def test_the_selector_is_told_about_how_many_rows_are_wanted():
    asked = []

    class Asked:
        def order(self, rows, *, context, n, seed):  # noqa: ARG002
            asked.append(n)
            return np.arange(len(rows))

    there = supply(POOL, "loss_tokens")["a"]
    made(one_phase(there // 3, (1.0,)), select=Asked())
    assert asked == [100]


def test_the_same_seed_gives_the_same_bytes_and_another_another_order():
    schedule = sequence()
    shuffled = POOL.sample(fraction=1, shuffle=True, seed=1)
    first, same, other = made(schedule), made(schedule, frame=shuffled), made(schedule, seed=8)
    assert first.frame.drop("row").equals(same.frame.drop("row"))
    assert shuffled[same.frame["row"]]["sample_id"].equals(first.frame["sample_id"])
    assert first.report == same.report
    assert first.frame["sample_id"].to_list() != other.frame["sample_id"].to_list()


def test_rows_that_are_only_measured_are_never_trained_on():
    frame = pl.concat([POOL, samples({"a": 50}, seed=1, role="validation"), samples({"b": 50}, seed=2, role="reference")])
    chosen = made(one_phase(600, (0.5, 1 / 3, 1 / 6), unit="samples"), frame=frame).frame
    assert sorted(chosen["sample_id"]) == sorted(POOL["sample_id"])


def test_a_light_frame_with_the_places_of_its_rows_is_enough():
    others = pl.concat([samples({"a": 70}, seed=1, role="validation"), POOL]).with_row_index("row")
    light = others.filter(pl.col("role") == "target").drop("messages", "license", "source_revision", "extras")
    frame = made(sequence(), frame=light).frame
    assert frame.drop("row").equals(made(sequence()).frame.drop("row"))
    assert frame["row"].min() >= 70
    assert others[frame["row"]]["sample_id"].equals(frame["sample_id"])


def test_replay_sources_are_trained_on():
    frame = pl.concat([POOL.filter(domain="c"), samples({"a": 80}, seed=3, role="replay")])
    chosen = made(one_phase(100, (0.5, 0.0, 0.5), unit="samples", current=("c",)), frame=frame).frame
    assert supply(chosen, "samples") == {"a": 50, "c": 50}


def test_the_report_is_plain_json_whose_numbers_are_those_of_the_frame():
    made_ = made(sequence())
    report = json.loads(json.dumps(made_.report))
    assert report == made_.report
    assert report["unit"] == "loss_tokens"
    assert [phase["name"] for phase in report["phases"]] == ["a", "b", "c"]
    assert [line["domain"] for line in report["domains"]] == list(DOMAINS)
    counts = {"rows": pl.len(), "tokens": pl.col("n_tokens").sum(), "loss_tokens": pl.col("n_loss_tokens").sum()}
    for i, phase in enumerate(report["phases"]):
        for line in phase["domains"]:
            rows = made_.frame.filter(phase=i, domain=line["domain"])
            assert {key: line[key] for key in counts} == rows.select(**counts).to_dicts()[0]
            assert line["is_replay"] == (line["domain"] != phase["name"])
        for key in ("planned", "realised", *counts):
            assert sum(line[f"{key}_share"] for line in phase["domains"]) == pytest.approx(1)
    for line in report["domains"]:
        rows = made_.frame.filter(domain=line["domain"])
        assert {key: line[key] for key in counts} == rows.select(**counts).to_dicts()[0]
    assert report["total"]["rows"] == made_.frame.height
    assert report["total"]["planned"] == sequence().total


def test_nothing_is_no_composition():
    with pytest.raises(InputError, match=r"budget: the composition is empty; got 0 loss_tokens; raise the budget"):
        made(one_phase(0, (1.0,)))
    with pytest.raises(InputError, match="the composition is empty"):
        made(one_phase(100, (1.0,)), frame=POOL.filter(domain="b"))


def test_a_scheduled_domain_must_be_in_the_recipe():
    with pytest.raises(InputError, match="a scheduled domain is not in the recipe; expected among a, b; got c"):
        made(one_phase(100, (0.2, 0.3, 0.5)), domains=("a", "b"))
