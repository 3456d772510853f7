"""A recipe with a mixture trains one LoRA per domain first, phase after phase, and measures what chooses by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from composer import tables
from composer.artifact import Artifact, Store
from composer.errors import InputError
from flows.pipeline import make_plan
from flows.plan import Plan
from flows.recipe import read_recipe
from flows.shell import carry_out

Done = tuple[Path, dict[str, Artifact]]
DOMAINS = ("law", "medicine", "code")
MOLA = ("train.adapter={name: mola, expert: {rank: 4, alpha: 8}}", "train.learning_rate=0.01")


def planned(done: Done, world: Path, *more: str) -> tuple[Plan, Store]:
    base, store = json.dumps(str(done[1]["base"].path / "model")), Store(world / "store")
    given = [f"root={json.dumps(str(world))}", f"base_model={{path: {base}}}", "probe=null", "law=uniform", *MOLA, *more]
    return make_plan(read_recipe(world / "recipe.yaml", given), store), store


def test_a_lora_of_every_domain_comes_before_the_mixture(done: Done, world: Path) -> None:
    plan, store = planned(done, world)
    labels = [step.label for step in plan]
    assert labels[labels.index("compose") :] == [
        "compose", "export", "evaluate before", "train law expert", "train medicine expert", "train code expert", "train",
        "evaluate after mixture", "retain", "report",
    ]  # fmt: skip
    made = carry_out(plan, store, plain=True)
    rows = made["compose"].json("report.json")["phases"][0]["domains"]
    for domain in DOMAINS:
        expert = made[f"train {domain} expert"]
        assert list(expert.manifest.stats["domains"]) == [domain]
        assert expert.manifest.stats["samples"] == next(each["rows"] for each in rows if each["domain"] == domain)
        assert f"adapter/experts/{domain}/adapter_model.safetensors" in made["train"].manifest.files
    before, after = (made[f"evaluate {when}"].manifest.stats["domains"] for when in ("before", "after mixture"))
    assert all(after[domain]["loss_nats_per_token"] < before[domain]["loss_nats_per_token"] for domain in DOMAINS)
    assert "routes.parquet" not in made["evaluate before"].manifest.files
    routes = tables.read(made["evaluate after mixture"].file("routes.parquet"), tables.ROUTES)
    assert routes.rows(named=True)[0].keys() == tables.ROUTES.keys()
    assert set(routes["expert"]) == set(DOMAINS)
    for (_, n), own in routes.group_by("domain", "prompts"):
        assert n > 0
        assert own["share"].sum() == pytest.approx(1)
        assert own["probability"].sum() == pytest.approx(1, abs=1e-5)
    again, _ = planned(done, world, "train.adapter.eta=0.5")
    keys = {step.label: step.key for step in again}
    assert all(keys[f"train {domain} expert"] == made[f"train {domain} expert"].key for domain in DOMAINS)
    assert keys["train"] != made["train"].key


@pytest.mark.slow
def test_a_sequence_adds_experts_where_domains_are_new(done: Done, world: Path) -> None:
    more = ("sequence=[law, [medicine, code]]", "replay={name: random, per_task: 6}", "budget={unit: samples}")
    plan, store = planned(done, world, *more, "evaluate={max_samples: 6, experts: true}")
    labels = [step.label for step in plan if step.stage.name == "train"]
    assert labels == [
        "train law expert", "train law", "train medicine expert", "train code expert", "train medicine+code",
        "train law expert alone", "train law alone", "train medicine expert alone", "train code expert alone",
        "train medicine+code alone",
    ]  # fmt: skip
    made = carry_out(plan.until("train"), store, plain=True)
    assert made["train law"].json("adapter/mola.json") == {"experts": ["law"]}
    assert made["train medicine+code"].json("adapter/mola.json") == {"experts": list(DOMAINS)}


@pytest.mark.slow
def test_reference_losses_are_of_one_lora(done: Done, world: Path) -> None:
    law = ("train.law={name: potential, every: 2, floor: 0.05}", "train.reference={epochs: 1, rows: 8}")
    plan, store = planned(done, world, *law)
    steps = {step.label: step for step in plan}
    assert steps["reference"].values["spec"].adapter.name == "lora"
    assert all(steps[f"train {domain} expert"].values["spec"].law is None for domain in DOMAINS)
    made = carry_out(plan.until("train"), store, plain=True)
    assert made["train"].manifest.stats["looks"] > 0


def test_a_domain_without_rows_is_named(done: Done, world: Path) -> None:
    plan, store = planned(done, world, "law={name: explicit, weights: {law: 1.0, medicine: 0.0, code: 1.0}}")
    with pytest.raises(InputError, match=r"phase 1: no rows to train an expert on; got medicine"):
        carry_out(plan.until("train"), store, plain=True)
