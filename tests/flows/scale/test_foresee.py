"""What a recipe would cost: laws of the sums, what does not fit, what cannot be read, and a run that was carried out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer.artifact import Store
from composer.errors import SpecError
from flows.cli import invoke
from flows.recipe import read_recipe
from flows.scale.foresee import COSTS, foresee
from flows.scale.rates import read_rates
from flows.scale.scenario import Scenario, read_scenario
from flows.stages import STAGES

ROOT = Path(__file__).parents[3]
RECIPE, CLUSTER = ROOT / "docs/scale/recipe.yaml", ROOT / "docs/scale/cluster.yaml"
Done = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def large() -> dict[str, Any]:
    return at()


def at(*changes: str, recipe: tuple[str, ...] = ()) -> dict[str, Any]:
    return foresee(read_recipe(RECIPE, recipe), read_scenario(CLUSTER, changes))


def stage(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in document["stages"] if each["stage"] == name)


def test_every_stage_has_a_cost() -> None:
    assert set(COSTS) == set(STAGES)


def test_totals_are_sums_and_a_cost_is_node_hours_times_the_price(large: dict[str, Any]) -> None:
    totals = large["totals"]
    for of in ("seconds", "node_hours", "cost", "disk_bytes"):
        assert totals[of] == pytest.approx(sum(each[of] for each in large["stages"]))
    for each in large["stages"]:
        assert each["node_hours"] == pytest.approx(each["seconds"] / 3600 * each["nodes"])
        assert each["cost"] == pytest.approx(24 * each["node_hours"])
        assert each["nodes"] <= 8
    assert totals["held_node_hours"] == pytest.approx(8 * totals["seconds"] / 3600)
    assert totals["held_node_hours"] >= totals["node_hours"]
    assert at("cluster.price_per_node_hour=48")["totals"]["cost"] == pytest.approx(2 * totals["cost"])


def test_twice_the_rows_are_twice_the_amount_and_nothing_is_sooner(large: dict[str, Any]) -> None:
    twice = at("data.rows=20_000_000", "data.instructions=8_000_000")
    for name in ("ingest", "pool", "embed", "tag", "compose", "export", "train"):
        assert stage(twice, name)["amount"] == pytest.approx(2 * stage(large, name)["amount"], rel=1e-4)
        assert stage(twice, name)["disk_bytes"] >= stage(large, name)["disk_bytes"]
    assert stage(twice, "pool")["seconds"] == pytest.approx(2 * stage(large, "pool")["seconds"])
    assert all(a["seconds"] <= b["seconds"] for a, b in zip(large["stages"], twice["stages"], strict=True))


@pytest.mark.parametrize(("faster", "where"), [
    ("cluster.core_speed=2", "tag"), ("cluster.gpu.tflops=2000", "train"), ("cluster.disk_gb_per_s=20", "evaluate"),
    ("cluster.gpu.network_gb_per_s=100", "train"), ("cluster.gpu.memory_gb_per_s=6700", "probe"),
])  # fmt: skip
def test_what_is_faster_makes_nothing_slower(faster: str, where: str) -> None:
    bound = () if faster.startswith("cluster.gpu.tflops") else ("train.batch_size=64", "engine.concurrency=64")
    before, after = at(recipe=bound), at(faster, recipe=bound)
    assert all(b["seconds"] <= a["seconds"] for a, b in zip(before["stages"], after["stages"], strict=True))
    assert stage(after, where)["seconds"] < stage(before, where)["seconds"]


def test_more_workers_are_never_slower(large: dict[str, Any]) -> None:
    seconds = [at(recipe=(f"runner.workers={n}",))["totals"]["seconds"] for n in (1, 2, 8, 64, 1_000)]
    assert seconds == sorted(seconds, reverse=True)
    assert at(recipe=("runner={name: thread, workers: 8}",))["totals"]["seconds"] > large["totals"]["seconds"]


def test_what_does_not_fit_is_told(large: dict[str, Any]) -> None:
    assert "train: several nodes" in " ".join(large["does_not_fit"])
    assert "of main memory" in " ".join(stage(large, "train")["troubles"])
    lora = at("model.adapter_parameters=2e8", recipe=("train.adapter=lora", "train.shard=false"))
    assert "of a GPU's memory, and it has 80" in " ".join(stage(lora, "train")["troubles"])
    exact = at(recipe=("distance=wasserstein",))
    assert "of main memory" in " ".join(stage(exact, "compare")["troubles"])
    assert stage(exact, "compare")["seconds"] > 100 * stage(large, "compare")["seconds"]
    assert "disk: " in at("cluster.disk_gb=100")["does_not_fit"][-1]
    assert "64 processes, and there are 8 GPUs" in " ".join(at("cluster.nodes=1")["does_not_fit"])
    assert "8 servers, and there are 4 nodes" in " ".join(at("cluster.nodes=4")["does_not_fit"])
    roomy = at("cluster.memory_gb=20_000", "cluster.gpu.memory_gb=400")["does_not_fit"]
    assert not [each for each in roomy if "memory" in each]


def test_what_is_not_known_is_in_no_sum() -> None:
    document = at(recipe=("cluster={name: kmeans, k: 40}",))
    assert document["unknown"] == ["cluster"]
    assert stage(document, "cluster")["cost"] is None
    assert document["totals"]["seconds"] == pytest.approx(at()["totals"]["seconds"])


def test_rates_are_told_with_their_origin_and_may_be_stated(large: dict[str, Any]) -> None:
    rates = large["rates"]
    assert {"measured", "logged", "assumed", "counted"} == {each["kind"] for each in rates.values()}
    assert all(each["machine"] for each in rates.values() if each["kind"] == "measured")
    assert all(each["source"] for each in rates.values())
    stated = at('rates={"train.mfu": 0.4}')
    assert stated["rates"]["train.mfu"]["kind"] == "stated"
    assert stage(stated, "train")["seconds"] < stage(large, "train")["seconds"]
    with pytest.raises(SpecError, match=r"no rate 'train.mfo'.*train.mfu"):
        at('rates={"train.mfo": 0.4}')
    with pytest.raises(SpecError, match="above zero"):
        read_rates({"train.mfu": 0.0})


@pytest.mark.parametrize(("change", "match"), [
    ("cluster.nodes=0", r"cluster\.nodes: .*greater than or equal to 1"),
    ("cluster.node=8", r"cluster\.node: unknown field of Cluster; did you mean 'nodes'"),
    ("cluster.gpus=0", r"cluster\.gpu: GPUs are a number and a kind"),
    ("data.loss_share=1.5", r"data\.loss_share: .*less than or equal to 1"),
    ("data.rows=0", r"data\.rows: no rows"),
    ("data.rows={law: 10}", r"data\.rows: no rows stated for a source"),
    ("encoder=null", r"encoder: no sentence model"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_place(change: str, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        at(change)


def test_a_scenario_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such scenario"):
        read_scenario(tmp_path / "none.yaml")


def of_run(store: Store) -> Scenario:
    """Return one core, with the data that a run turned out to have."""
    [pool] = store.all("samples")
    rows, asked = pl.read_parquet(pool.file("samples.parquet")), pl.read_parquet(pool.file("instructions.parquet"))["text"]
    text = rows["messages"].list.eval(pl.element().struct.field("content").str.len_bytes()).list.sum()
    [trained], learned = store.all("model"), rows.filter(pl.col("role") == "target")
    tokens = learned["n_tokens"].mean()
    parameters = trained.manifest.stats["trainable_parameters"]
    return Scenario(
        name="one core", cluster={"nodes": 1, "cores": 1, "memory_gb": 16, "disk_gb": 10, "disk_gb_per_s": 1},
        model={"parameters": parameters, "layers": 1, "hidden": 64, "vocabulary": 400, "kv_bytes_per_token": 512},
        data={
            "rows": {each.manifest.spec["source"]["name"]: each.manifest.stats["samples"] for each in store.all("source")},
            "bytes_per_row": text.mean(), "tokens_per_row": tokens, "instructions": len(asked),
            "loss_share": learned["n_loss_tokens"].sum() / learned["n_tokens"].sum(),
            "bytes_per_instruction": asked.str.len_bytes().mean(), "tokens_per_instruction": tokens,
        },
    )  # type: ignore[arg-type]  # fmt: skip


def test_what_a_real_run_left_is_as_was_foreseen(done: Done) -> None:
    """Of a run of 300 rows: models to a tenth, and the amounts that follow from the recipe to the row."""
    store, recipe = Store(done[0] / "store"), read_recipe(done[0] / "recipe.yaml")
    told = foresee(recipe, of_run(store))
    left = {
        kind: sum(r.n_bytes for a in store.all(kind) for n, r in a.manifest.files.items() if n.endswith(".safetensors"))
        for kind in ("base", "model")
    }
    assert stage(told, "train")["disk_bytes"] == pytest.approx(left["model"], rel=0.1)
    assert stage(told, "base")["disk_bytes"] == pytest.approx(left["base"], rel=0.3)  # its vocabulary is an upper bound
    [pool], [composition], [known] = store.all("samples"), store.all("composition"), store.all("knowledge")
    assert stage(told, "pool")["amount"] == pool.manifest.stats["samples"] + sum(
        n for source in pool.manifest.stats["duplicates"].values() for n in source.values()
    )
    assert stage(told, "compose")["amount"] == pytest.approx(composition.manifest.stats["rows"], rel=0.15)
    assert stage(told, "train")["amount"] == pytest.approx(composition.manifest.stats["tokens"], rel=0.25)
    assert stage(told, "probe")["amount"] >= known.json("knowledge.json")["n_tokens"]


def test_neither_data_nor_models_have_to_be_there_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.read_text(encoding="utf-8"), encoding="utf-8")
    command = ["estimate", str(recipe), "--at", str(CLUSTER), "--set", "cluster.nodes=9", "--store", str(tmp_path / "store")]
    assert invoke([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recipe"] == "ten-million"
    assert document["totals"]["held_node_hours"] == pytest.approx(9 * document["totals"]["seconds"] / 3600)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
    assert invoke(command) == 0
    assert "does not fit: train" in capsys.readouterr().out


def test_the_recipes_that_are_here_can_be_estimated() -> None:
    for name in ("domains", "tasks", "definitions"):
        document = foresee(read_recipe(ROOT / f"flows/recipes/{name}.yaml"), read_scenario(CLUSTER))
        assert document["totals"]["seconds"] > 0
        assert set(document["unknown"]) <= {"cluster", "cover"}
