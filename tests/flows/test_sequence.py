"""A sequence is one schedule and one composition, however it was planned; what is at risk is measured where it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer import tables
from composer.artifact import Artifact, Store
from composer.errors import SpecError
from flows.pipeline import make_plan
from flows.plan import Plan
from flows.recipe import read_recipe
from flows.shell import carry_out

Done = tuple[Path, dict[str, Artifact]]
SEQUENCE = ("sequence=[law, medicine, code]", "probe=null", "law=proportional", "budget={unit: samples}")


def settings(done: Done, world: Path, *more: str) -> list[str]:
    """Overrides that make the small recipe a sequence, from a base that is there already."""
    base = json.dumps(str(done[1]["base"].path / "model"))
    return [f"root={json.dumps(str(world))}", f"base_model={{path: {base}}}", *SEQUENCE, *more]


def carried_out(done: Done, world: Path, *more: str, until: str | None = None) -> tuple[Plan, dict[str, Artifact]]:
    store = Store(world / "store")
    plan = make_plan(read_recipe(world / "recipe.yaml", settings(done, world, *more)), store)
    return plan, carry_out(plan.until(until) if until else plan, store, plain=True)


def frame(artifact: Artifact) -> pl.DataFrame:
    return tables.read(artifact.file("composition.parquet"), tables.COMPOSITION)


def test_a_policy_that_reads_the_training_trains_on_the_very_rows_that_it_exports(done: Done, world: Path) -> None:
    plan, made = carried_out(done, world, "replay={name: loss, per_task: 6, strength: 40}", "evaluate.experts=true")
    labels = [step.label for step in plan]
    assert labels.index("evaluate after law") < labels.index("replay medicine") < labels.index("train medicine")
    whole = frame(made["compose"])
    for i, name in enumerate(("law", "medicine", "code")):
        own = frame(made[f"compose {name}"])
        assert own["sample_id"].to_list() == whole.filter(pl.col("phase") == i)["sample_id"].to_list()
    phases = (
        made["replay"].json("schedule.json")["phases"]
        if "replay" in made
        else made["replay code"].json("schedule.json")["phases"]
    )
    evaluated = [made[f"evaluate {name}"].json("evaluation.json") for name in ("before", "after law", "after medicine")]
    loss = "loss_nats_per_token"
    risen = {d: max(evaluated[2][d][loss] - evaluated[at][d][loss], 0) for d, at in (("law", 1), ("medicine", 2))}
    assert risen["medicine"] == 0  # its own stage was the last
    last = dict(zip(phases[2]["mixture"]["domains"], phases[2]["mixture"]["weights"], strict=True))
    amount = {domain: share * phases[2]["amount"] for domain, share in last.items() if domain != "code"}
    assert sum(amount.values()) == pytest.approx(12)
    assert amount["law"] == pytest.approx(12 * (1 + 40 * risen["law"]) / (2 + 40 * risen["law"]), abs=0.51)
    kept = made["retain"].json("retention.json")
    assert kept["upper"] == "expert"
    assert [each["stage"] for each in kept["relative_gain"]] == ["before", "law", "medicine", "code"]


def test_what_coverage_reads_is_mapped_with_its_plan(done: Done, world: Path) -> None:
    _, made = carried_out(
        done, world, "replay={name: coverage, per_task: 6, near: 0.6}", "coverage={plan: true}", until="compose"
    )
    risk = made["cover"].json("risk.json")
    assert [sorted(told) for told in risk["phases"]] == [[], ["law"], ["law", "medicine"]]
    assert all(alone[d] <= told[d] + 1e-9 for told, alone in zip(risk["phases"], risk["alone"], strict=True) for d in told)
    assert risk["near"] == 0.6
    scores = tables.read(made["cover"].file("scores.parquet"), tables.INSTRUCTION_SCORE)
    assert scores["value"].is_between(0, 1).all()
    plan = tables.read(made["cover"].file("plan.parquet"), tables.TRANSPORT_PLAN)
    moved = {(i, d): mass for i, d, mass in plan.group_by("phase", "domain").agg(pl.col("mass").sum()).iter_rows()}
    for i, told in enumerate(risk["phases"]):
        for domain, uncovered in told.items():
            assert moved.get((i, domain), 0) == pytest.approx(1 - uncovered, abs=1e-6)
    amounts = [phase["amount"] for phase in made["replay"].json("schedule.json")["phases"]]
    new = [made["pool"].manifest.stats["domains"][d]["target"]["samples"] for d in ("law", "medicine", "code")]
    assert [total - own for total, own in zip(amounts, new, strict=True)] == [0, 6, 12]


def test_interference_is_measured_of_rows_and_answers(done: Done, world: Path) -> None:
    _, made = carried_out(done, world, "replay={name: interference, per_task: 6, near: 1.0}", until="compose")
    told = made["interfere"].json("risk.json")["phases"]
    assert [sorted(each) for each in told] == [[], ["law"], ["law", "medicine"]]
    assert all(0 <= value <= 1 for each in told for value in each.values())
    assert any(value > 0 for each in told for value in each.values())
    assert made["compose"].manifest.stats["rows"] > 0


def test_insinfo_is_of_the_instructions_so_far(done: Done, world: Path) -> None:
    from composer.insinfo import insinfo

    _, made = carried_out(done, world, "replay={name: distance, per_task: 6}", until="compose")
    scores = tables.read(made["score"].file("scores.parquet"), tables.INSTRUCTION_SCORE)
    samples = tables.read(made["pool"].file("samples.parquet"), tables.SAMPLE).filter(pl.col("role") == "target")
    tags = tables.read(made["tag"].file("tags.parquet"), tables.TAGS)
    for phase, domains in enumerate((["law"], ["law", "medicine"], ["law", "medicine", "code"])):
        ids = samples.filter(pl.col("domain").is_in(domains))["instruction_id"].unique().sort()
        own = scores.filter(pl.col("phase") == phase).sort("instruction_id")
        assert own["instruction_id"].to_list() == ids.to_list()
        pool = tags.join(own.select("instruction_id"), on="instruction_id", how="semi").sort("instruction_id")
        assert own["value"].to_list() == pytest.approx(insinfo(pool["tags"].to_list()).tolist())


def test_selectors_get_what_they_need(done: Done, world: Path) -> None:
    for word, step in (
        ("spread", "answers"),
        ("prototype_data", "embed-rows"),
        ("prototype_instruction", "embed"),
        ("diverse", "embed"),
    ):
        _, made = carried_out(done, world, "replay={name: random, per_task: 6}", f"replay_select={word}", until="compose")
        assert step in made
        assert frame(made["compose"])["is_replay"].sum() == 18


def test_clusters_cap_what_a_selector_takes(done: Done, world: Path) -> None:
    more = (
        "cluster={name: kmeans, k: 4}",
        "select={name: uniform, max_cluster_share: 0.3}",
        "budget={amount: 20, unit: samples}",
    )
    plan, made = carried_out(done, world, "sequence=[]", *more)
    clusters = tables.read(made["cluster"].file("clusters.parquet"), tables.CLUSTERS)
    samples = tables.read(made["pool"].file("samples.parquet"), tables.SAMPLE)
    chosen = (
        frame(made["compose"])
        .join(samples.select("sample_id", "instruction_id"), on="sample_id")
        .join(clusters, on="instruction_id")
    )
    told = made["cluster"].json("clusters.json")["clusters"]
    assert len(told) == clusters["cluster"].n_unique() <= 4
    assert sum(each["instructions"] for each in told) == clusters.height
    for _, own in chosen.group_by("domain"):
        largest = own["cluster"].value_counts()["count"].max()
        assert largest <= -(-0.3 * len(own) // 1) or own["cluster"].n_unique() < 4
    assert plan.recipe.cluster.k == 4


def test_a_task_that_comes_later_costs_one_row_of_the_matrix(done: Done, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from composer.similarity.wasserstein import Wasserstein
    from probes.embed.lexical import Lexical

    monkeypatch.setattr(Lexical, "fitted", False)  # as with a model: a text's vector is its own
    monkeypatch.setattr(Lexical, "encode", lambda _, texts: _letters(texts))
    measured: list[int] = []
    real = Wasserstein.measure
    monkeypatch.setattr(Wasserstein, "measure", lambda self, a, b: (measured.append(1), real(self, a, b))[1])
    _, first = carried_out(
        done, world, "sequence=[law, medicine]", "domains=[law, medicine]", _without("code", world), until="compare"
    )
    assert len(measured) == 1
    _, later = carried_out(done, world, until="compare")
    assert len(measured) == 3  # two more, not three
    assert later["compare"].json("similarity.json")["value"][0][1] == first["compare"].json("similarity.json")["value"][0][1]


def _letters(texts: Any) -> Any:
    import numpy as np

    rows = np.array([[text.count(c) + 1e-3 for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _without(domain: str, world: Path) -> str:
    recipe = read_recipe(world / "recipe.yaml")
    kept = [{"name": s.name, "path": s.path, "domain": s.domain, "role": s.role} for s in recipe.sources if s.domain != domain]
    return f"sources={json.dumps(kept)}"


def test_the_order_of_the_tasks_is_the_recipes(done: Done, world: Path) -> None:
    def order(*more: str) -> list[str]:
        read = read_recipe(world / "recipe.yaml", settings(done, world, *more))
        return [domain for group in read.groups for domain in group]

    bounds = "upper_bounds={law: 0.2, medicine: 0.9, code: 0.5}"
    assert order() == ["law", "medicine", "code"]
    assert order("sequence_order=curriculum", bounds) == ["medicine", "code", "law"]
    assert order("sequence_order=reverse", bounds) == ["law", "code", "medicine"]
    assert sorted(order("sequence_order=random")) == ["code", "law", "medicine"]
    with pytest.raises(SpecError, match="upper_bounds"):
        order("sequence_order=curriculum")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (["replay=loss", "train=null"], "replay: loss plans by what training made the model forget; let the recipe train"),
        (["replay=coverage", "embed=null", "distance=null"], "replay: needs an embedder"),
        (["coverage={near: 0.5}", "embed=null", "distance=null"], "coverage: needs an embedder"),
        (["cluster=kmeans", "embed=null", "distance=null"], "cluster: needs an embedder"),
        (["replay_select=diverse", "embed=null", "distance=null"], "replay_select: needs an embedder"),
        (["select={name: uniform, max_cluster_share: 0.5}"], "max_cluster_share needs clusters; give the recipe a clusterer"),
        (["exports=[]"], "exports: a composition is written in no format; name at least one of parquet"),
    ],
)
def test_what_a_recipe_lacks_is_said_before_anything_runs(done: Done, world: Path, changes: list[str], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        read_recipe(world / "recipe.yaml", settings(done, world, *changes))
