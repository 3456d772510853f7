"""What ``sft-composer estimate --at`` foresees of a run, against what the run took: CPU seconds and bytes of every stage.

``flows/recipes/domains.yaml`` on real text, with fewer tokens for its base, its probe and its training, is carried out in this
process. The scenario is a machine of one core with the rows, bytes and tokens that the run turned out to have, so that it is
the rates and the formulas that are judged. The rates come of other data (``stages.py`` and the other benchmarks). In a hurry it
is the tiny world. Without ``../shared/data`` the script says so and ends.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
from _harness import QUICK, Ratio, tell

from composer.artifact import Artifact, Store
from flows.pipeline import make_plan
from flows.recipe import Recipe, read_recipe
from flows.scale.foresee import foresee
from flows.scale.scenario import Scenario
from flows.shell import carry_out

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
FEWER = ["base_model.train.tokens=300_000", "probe.samples=250", "budget.amount=60_000", "evaluate.max_samples=40"]
TINY = ["base_model.train.documents=400", "probe.samples=60", "budget.amount=2_000", "evaluate.max_samples=20"]


def recipe_in(folder: Path) -> Recipe:
    """Return the recipe to carry out."""
    if not QUICK:
        return read_recipe(ROOT / "flows/recipes/domains.yaml", [f"root={json.dumps(str(ROOT))}", *FEWER])
    from flows.demo.world import World, write

    write(World(), folder, seed=1, documents=400)
    return read_recipe(ROOT / "flows/demo/domains.yaml", [f"root={json.dumps(str(folder))}", *TINY])


def scenario_of(recipe: Recipe, made: dict[str, list[Artifact]]) -> Scenario:
    """Return one core with what the run turned out to have."""
    [pool], [trained] = made["pool"], made["train"]
    rows = pl.read_parquet(pool.file("samples.parquet"), columns=["messages", "role", "n_tokens", "n_loss_tokens"])
    asked = pl.read_parquet(pool.file("instructions.parquet"))["text"].str.len_bytes()
    contents = rows["messages"].list.eval(pl.element().struct.field("content").str.len_bytes()).list.sum()
    spec = recipe.base_model.train
    assert spec is not None
    cluster = {"nodes": 1, "cores": 1, "memory_gb": 16, "disk_gb": 100, "disk_gb_per_s": 1}
    learned = rows.filter(pl.col("role") == "target")
    tokens = float(learned["n_tokens"].mean())  # type: ignore[arg-type]
    model = {
        "parameters": trained.manifest.stats["trainable_parameters"],
        "layers": spec.layers,
        "hidden": spec.hidden,
        "vocabulary": spec.vocab,
    }
    return Scenario(
        name="one core", cluster=cluster, model={**model, "kv_bytes_per_token": 8 * spec.layers * spec.hidden},
        data={
            "rows": {each.manifest.spec["source"]["name"]: each.manifest.stats["samples"] for each in made["ingest"]},
            "bytes_per_row": contents.mean(), "tokens_per_row": tokens,
            "loss_share": learned["n_loss_tokens"].sum() / learned["n_tokens"].sum(), "instructions": len(asked),
            "bytes_per_instruction": asked.mean(), "tokens_per_instruction": tokens * asked.mean() / contents.mean(),
        },
    )  # type: ignore[arg-type]  # fmt: skip


def measured(artifacts: list[Artifact]) -> dict[str, float]:
    """Return the CPU seconds and the bytes of the artifacts of a stage."""
    size = sum(record.n_bytes for each in artifacts for record in each.manifest.files.values())
    return {"seconds": round(sum(each.manifest.made["cpu_seconds"] for each in artifacts), 3), "bytes": size}


def main() -> None:
    """Carry the recipe out, foresee it, and compare."""
    if not QUICK and not SHARED.is_dir():
        raise SystemExit(f"no {SHARED}: nothing to carry out")
    with tempfile.TemporaryDirectory() as folder:
        recipe = recipe_in(Path(folder))
        store = Store(Path(folder, "store"))
        plan = make_plan(recipe, store)
        done = carry_out(plan, store, plain=True, told=lambda step, _, __: print(step.label, file=sys.stderr))
        made: dict[str, list[Artifact]] = {}
        for step in plan:
            made.setdefault(step.stage.name, []).append(done[step.label])
        scenario = scenario_of(recipe, made)
        told = {each["stage"]: each for each in foresee(recipe, scenario)["stages"]}
        costs: dict[str, Any] = {
            name: {
                "foreseen": {"seconds": told[name]["seconds"], "bytes": told[name]["disk_bytes"]},
                "measured": measured(found),
            }
            for name, found in made.items()
        }
    tell("scale", ratios(costs), equal=True, sizes=sizes(scenario), costs=costs)


def ratios(costs: dict[str, Any]) -> list[Ratio]:
    """Return by what factor all stages are off, and in the median each of some weight."""
    out = []
    for of, least in (("seconds", 1.0), ("bytes", 100_000)):
        known = [(each["foreseen"][of], each["measured"][of]) for each in costs.values() if each["foreseen"][of]]
        off = [max(a / b, b / a) for a, b in known if b >= least] or [1.0]
        foreseen, real = (sum(each) for each in zip(*known, strict=True))
        out += [Ratio(f"{of} of all stages, off by a factor", max(foreseen / real, real / foreseen), 2.0, "lower", 1)]
        out += [Ratio(f"{of} of a stage, off by a factor, median", statistics.median(off), 2.0, "lower", len(off))]
    return out


def sizes(scenario: Scenario) -> dict[str, Any]:
    """Return what was read, rounded."""
    data = scenario.data.model_dump()
    rows = data.pop("rows")
    return {
        "rows": sum(rows.values()),
        **{name: round(value, 3) for name, value in data.items()},
        "parameters": scenario.model.parameters,
    }


if __name__ == "__main__":
    main()
