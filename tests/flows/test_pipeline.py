"""A plan's keys are known before anything is done; a run does what the plan says, and nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer import tables
from composer.artifact import Artifact, Store
from composer.errors import InputError, ModelError, SpecError
from flows.pipeline import make_plan
from flows.recipe import read_recipe
from flows.shell import carry_out
from flows.stages import STAGES

Done = tuple[Path, dict[str, Artifact]]


def plan_of(folder: Path, *overrides: str, store: Path | None = None) -> Any:
    return make_plan(read_recipe(folder / "recipe.yaml", overrides), Store(store or folder / "store"))


def keys(folder: Path, *overrides: str) -> dict[str, str]:
    return {step.label: step.key for step in plan_of(folder, *overrides)}


def test_every_stage_is_done_and_named_as_planned(done: Done) -> None:
    folder, artifacts = done
    assert {step.label: (step.stage.kind, step.key) for step in plan_of(folder)} == {
        label: (artifact.kind, artifact.key) for label, artifact in artifacts.items()
    }
    asked_for = {"answers", "embed-rows", "cluster", "cover", "interfere", "reference", "mask", "trial", "predict"}  # by others
    assert {step.stage.name for step in plan_of(folder)} == set(STAGES) - asked_for


def test_a_second_run_does_nothing(done: Done) -> None:
    folder, _ = done
    store, seen = Store(folder / "store"), []
    carry_out(plan_of(folder), store, plain=True, told=lambda *heard: seen.append(heard[2]))
    assert seen
    assert all(seen)


def test_paths_do_not_enter_keys(world: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = keys(world)
    elsewhere = tmp_path_factory.mktemp("moved") / "there"
    world.rename(elsewhere)
    assert keys(elsewhere, f"root={elsewhere}") == before
    assert (
        keys(elsewhere, f"root={elsewhere}", "engine={name: hf, batch_tokens: 64}", "train.device=cpu", "store=other") == before
    )
    elsewhere.rename(world)


def test_a_template_file_is_known_by_its_content(done: Done, world: Path) -> None:
    base = done[1]["base"].path / "model"
    (world / "one.jinja").write_text("{{ messages }}")
    (world / "two.jinja").write_text("{{ messages }}")
    one, two = (keys(world, f"base_model={{path: {base}, chat_template: {name}.jinja}}") for name in ("one", "two"))
    auto = keys(world, f"base_model={{path: {base}}}")
    assert one == two
    assert one["ingest law"] != auto["ingest law"]
    with pytest.raises(ModelError, match=r"base_model\.chat_template: no such template file"):
        keys(world, f"base_model={{path: {base}, chat_template: three.jinja}}")


MODELS = {
    "embed": "embed={{name: sentence_transformer, model: {}}}",
    "probe": "probe={{name: self_generation, judge: {{name: llm, model: {}}}}}",
    "tag": "tags={{name: llm, model: {}}}",
}


@pytest.mark.parametrize("stage", MODELS)
def test_a_model_of_a_stage_is_known_by_its_content(stage: str, world: Path) -> None:
    for name in ("one", "two"):
        (world / name).mkdir()
        (world / name / "config.json").write_text("{}")
    one, two = (keys(world, MODELS[stage].format(name))[stage] for name in ("one", "two"))
    assert one == two
    (world / "two" / "config.json").write_text("{ }")
    assert keys(world, MODELS[stage].format("two"))[stage] != one
    [step] = [step for step in plan_of(world, MODELS[stage].format("one")) if step.label == stage]
    assert str(world / "one") in repr(step.values)  # where it lies, though it does not stand in the key
    with pytest.raises(ModelError, match=rf"{stage[:3]}\S+model: no model at this path; .*; got {world}/three"):
        keys(world, MODELS[stage].format("three"))


def test_a_model_that_was_fetched_before_needs_no_hub(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    commit = "0123456789" * 4
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: f"/cache/snapshots/{commit}")
    [step] = [step for step in plan_of(world, MODELS["tag"].format("org/name")) if step.label == "tag"]
    assert step.values["tagger"].identity()["model"] == f"org/name@{commit}"
    assert step.values["tagger"].model == "org/name"


def test_a_change_touches_only_what_follows(world: Path) -> None:
    before, after = keys(world), keys(world, "budget.amount=150")
    assert {label for label in before if before[label] != after[label]} == {
        "replay", "compose", "export", "train", "evaluate after mixture", "retain", "report",
    }  # fmt: skip
    with (world / "law.jsonl").open("a") as file:
        file.write(json.dumps({"instruction": "New?", "input": "", "output": "court"}) + "\n")
    grown = keys(world)
    same = {label for label in before if before[label] == grown[label]}
    assert same == {"base", *(label for label in before if label.startswith("ingest") and label != "ingest law")}


def test_which_answers_are_trained_on_is_told_to_all_that_count_them(world: Path) -> None:
    before = keys(world)
    assert keys(world, "loss_on=all") == before
    last = {step.label: step for step in plan_of(world, "loss_on=last")}
    told = {step.stage.name for step in last.values() if step.values.get("loss_on") == "last"}
    assert told == {"ingest", "train", "evaluate"}
    assert {label for label in before if before[label] == last[label].key} == {"base"}
    assert last["export"].values["recipe"]["loss_on"] == "last"
    with pytest.raises(SpecError, match="loss_on: input should be 'all' or 'last'; got 'first'"):
        keys(world, "loss_on=first")


def test_a_run_that_trains_on_last_answers_counts_them_everywhere(world: Path) -> None:
    asked = [json.loads(line) for line in (world / "law.jsonl").read_text().splitlines()]
    talks = [[row["instruction"], row["output"], row["input"], row["output"]] for row in asked]
    lines = [json.dumps({"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(talk)]})
             for talk in talks]  # fmt: skip
    (world / "law.jsonl").write_text("\n".join(lines))
    off = ("probe=null", "law=proportional", "embed=null", "tags=null", "distance=null", "budget.amount=null", "max_length=128")
    plain, last = (
        carry_out(plan_of(world, *off, f"loss_on={word}"), Store(world / "store"), plain=True) for word in ("all", "last")
    )
    for done in (plain, last):
        samples = tables.read(done["pool"].file("samples.parquet"), tables.SAMPLE)
        counted = dict(samples.select("sample_id", "n_loss_tokens").iter_rows())
        composition = tables.read(done["compose"].file("composition.parquet"), tables.COMPOSITION)
        trace = tables.read(done["train"].file("trace.parquet"), tables.TRACE)
        assert trace["n_tokens"].sum() == composition["n_loss_tokens"].sum() == done["train"].manifest.stats["n_loss_tokens"]
        found = tables.read(done["evaluate after mixture"].file("evaluation.parquet"), tables.EVALUATION)
        assert [counted[name] for name in found["sample_id"]] == found["n_loss_tokens"].to_list()
    every, only = (done["ingest law"].manifest.stats for done in (plain, last))
    assert every["n_tokens"] == only["n_tokens"]
    assert every["n_loss_tokens"] == 2 * only["n_loss_tokens"]


def test_until_keeps_what_a_command_reads(world: Path) -> None:
    labels = [step.label for step in plan_of(world).until("tag")]
    assert "tag" in labels
    assert "pool" in labels
    assert not {"probe", "embed", "train"} & set(labels)
    with pytest.raises(SpecError, match="this recipe has no stage 'tag'"):
        plan_of(world, "tags=null").until("tag")


def test_a_mixture_waits_for_a_probe_where_its_law_reads_one(world: Path) -> None:
    for law, waits in (("knowledge", True), ("inverse", True), ("uniform", False), ("proportional", False)):
        for stage in ("mix", "retain"):
            labels = {step.label for step in plan_of(world, f"law={law}").until(stage)}
            assert ("probe" in labels) is waits, (law, stage)
            assert stage in labels


def test_the_composition_holds_the_law_within_one_sample(done: Done) -> None:
    _, artifacts = done
    rows = tables.read(artifacts["compose"].file("composition.parquet"), tables.COMPOSITION)
    weights = artifacts["mix"].json("mixture.json")
    most = rows["n_loss_tokens"].max()
    for domain, weight in zip(weights["domains"], weights["weights"], strict=True):
        got = rows.filter(pl.col("domain") == domain)["n_loss_tokens"].sum()
        assert abs(got - weight * 200) <= most + 1, domain


def test_held_out_rows_are_never_trained_on(done: Done) -> None:
    _, artifacts = done
    samples = tables.read(artifacts["pool"].file("samples.parquet"), tables.SAMPLE)
    held = set(samples.filter(pl.col("role") != "target")["sample_id"])
    rows = tables.read(artifacts["compose"].file("composition.parquet"), tables.COMPOSITION)
    assert held
    assert not held & set(rows["sample_id"])


def test_counts_agree_from_ingest_to_training(done: Done) -> None:
    _, artifacts = done
    composed = artifacts["compose"].json("report.json")["total"]
    assert artifacts["train"].manifest.stats["n_loss_tokens"] == composed["loss_tokens"]
    assert artifacts["train"].manifest.stats["n_tokens"] == composed["tokens"]


def test_a_sequence_trains_phase_after_phase(world: Path) -> None:
    overrides = ("probe=null", "law=uniform", "replay={name: distance, per_task: 4}", "budget={unit: samples}")
    plan = plan_of(world, "sequence=[law, [medicine, code]]", *overrides)
    artifacts = carry_out(plan, Store(world / "store"), plain=True)
    retained = artifacts["retain"].json("retention.json")
    assert retained["stages"] == ["before", "law", "medicine+code"]
    schedule = artifacts["replay"].json("schedule.json")
    assert [phase["name"] for phase in schedule["phases"]] == ["law", "medicine+code"]
    rows = tables.read(artifacts["compose"].file("composition.parquet"), tables.COMPOSITION)
    replayed = rows.filter("is_replay")
    assert replayed["domain"].to_list() == ["law"] * 4
    assert replayed["phase"].to_list() == [1] * 4


def test_lora_trains_on_a_model_folder(done: Done, world: Path) -> None:
    base = done[1]["base"].path / "model"
    plan = plan_of(world, f"base_model={{path: {base}}}", "train.adapter=lora", "law=proportional", "probe=null")
    artifacts = carry_out(plan, Store(world / "store"), plain=True)
    assert (artifacts["train"].path / "adapter" / "adapter_model.safetensors").is_file()
    before = artifacts["evaluate before"].file("evaluation.parquet").read_bytes()
    assert artifacts["evaluate after mixture"].file("evaluation.parquet").read_bytes() != before


def test_replay_sources_are_earlier_data(world: Path) -> None:
    plan = plan_of(world, "sources.0.role=replay", "replay={name: random, per_task: 3}", "law=uniform", "probe=null",
                   "budget={unit: samples, amount: 10}", "train=null")  # fmt: skip
    artifacts = carry_out(plan, Store(world / "store"), plain=True)
    rows = tables.read(artifacts["compose"].file("composition.parquet"), tables.COMPOSITION)
    assert rows.group_by("domain").len().sort("domain").rows() == [("code", 5), ("law", 3), ("medicine", 5)]
    assert set(rows.filter("is_replay")["domain"]) == {"law"}


@pytest.mark.parametrize(
    ("overrides", "kind", "says"),
    [
        (["sources.0.path=none.jsonl"], InputError, r"none\.jsonl"),
        (["base_model={path: ./none}"], ModelError, r"base_model\.path: no model at this path"),
        (["base_model={path: org/none}"], ModelError, r"base_model\.path: no such folder, and the hub gives no such model"),
        (["base_model.corpora.law.path=none.jsonl"], SpecError, r"base_model\.corpora\.law\.path: no such file"),
    ],
)
def test_wrong_paths_are_named_before_anything_is_done(
    world: Path, overrides: list[str], kind: type[InputError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        plan_of(world, *overrides)
    assert not [p for p in (world / "store").glob("*/*") if p.is_dir()]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["probe=null"], "needs knowledge, which this run does not have"),
        (["replay=distance", "distance=null", "sequence=[law, medicine, code]", "law=uniform", "budget={unit: samples}"],
         "needs similarity"),
        (["select={name: instruction, score: insinfo}", "tags=null"], "insinfo"),
        (["max_length=8"], "no rows"),
        (["holdout=0"], "evaluate: no rows to measure on; set holdout"),
    ],
)  # fmt: skip
def test_what_a_stage_lacks_is_named(world: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        carry_out(plan_of(world, *overrides), Store(world / "store"), plain=True)


def test_an_unreadable_corpus_is_named(world: Path) -> None:
    (world / "law-text.jsonl").write_text('{"other": "x"}\n')
    with pytest.raises(InputError, match=r"base_model\.corpora\.law: no such column; expected other; got text"):
        carry_out(plan_of(world).until("base"), Store(world / "store"), plain=True)
