"""The cost of a probe: counted by the probe, measured on the engine, and nothing of the probe done."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from composer.artifact import Store
from flows import spending
from flows.cli import invoke
from probes.cost import calibrate

Done = tuple[Path, dict[str, Any]]


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for moments: what the rates are is not the question here."""
    monkeypatch.setattr(spending, "calibrate", partial(calibrate, seconds=0.02, repeats=2))


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert invoke([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("overrides", "counts"), [
    (["probe.samples=41"], (41, 41, 41 * 12)),
    (["probe.samples=30", "probe.max_tokens=100"], (30, 30, 100)),
])  # fmt: skip
def test_what_writing_will_cost(
    done: Done, capsys: pytest.CaptureFixture[str], overrides: list[str], counts: tuple[int, int, int]
) -> None:
    folder, _ = done
    before = [artifact.key for artifact in Store(folder / "store").all("knowledge")]
    found = told(capsys, "estimate", str(folder / "recipe.yaml"), *overrides)
    assert (found["generations"], found["prompt_tokens"], found["output_tokens"]) == counts
    assert 0 < found["low"] <= found["seconds"] <= found["high"]
    assert found["device_hours"] == pytest.approx(found["seconds"] / 3600)
    assert not found["done"]
    assert [artifact.key for artifact in Store(folder / "store").all("knowledge")] == before


def test_what_reading_will_cost_and_what_is_done_already(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = done
    found = told(capsys, "estimate", str(folder / "recipe.yaml"), "probe=perplexity")
    assert found["generations"] == found["output_tokens"] == 0 < found["prompt_tokens"]
    assert found["rates"]["prefill"]
    assert not found["rates"]["generation"]
    assert told(capsys, "estimate", str(folder / "recipe.yaml"))["done"]
    assert invoke(["estimate", str(folder / "recipe.yaml")]) == 0
    assert "device-hours" in capsys.readouterr().out


def calls(capsys: pytest.CaptureFixture[str], recipe: Path, *overrides: str) -> dict[str, Any]:
    document = told(capsys, "run", str(recipe), *overrides, "--dry-run")
    return {call["step"]: call for call in document["model_calls"]}


def test_a_dry_run_says_the_seconds_that_were_measured_for_its_engine(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = done[0] / "recipe.yaml"
    other = ["probe.samples=35", "engine={name: hf, batch_tokens: 512}"]
    unknown = calls(capsys, recipe, *other)["probe"]
    assert (unknown["calls"], unknown["prompt_tokens"], unknown["output_tokens"]) == (35, 35, 35 * 12)
    assert (unknown["seconds"], unknown["device_hours"]) == (None, None)
    assert invoke(["run", str(recipe), *other, "--dry-run"]) == 0
    assert "sft-composer estimate RECIPE measures the seconds" in " ".join(capsys.readouterr().out.split())
    spent = told(capsys, "estimate", str(recipe), *other)
    known = calls(capsys, recipe, *other)["probe"]
    assert known == {**unknown, "seconds": spent["seconds"], "device_hours": spent["device_hours"]}
    assert calls(capsys, recipe, "probe.samples=70", other[1])["probe"]["seconds"] == pytest.approx(2 * known["seconds"])
    assert calls(capsys, recipe, *other, "engine.batch_tokens=256")["probe"]["seconds"] is None


def test_a_dry_run_counts_what_a_probe_reads_once_its_samples_are_there(
    done: Done, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = done[0] / "recipe.yaml"
    read = calls(capsys, recipe, "probe=perplexity")["probe"]
    found = told(capsys, "estimate", str(recipe), "probe=perplexity")
    assert (read["calls"], read["output_tokens"], read["prompt_tokens"]) == (0, 0, found["prompt_tokens"])
    assert "probe" not in calls(capsys, world / "recipe.yaml", "probe=perplexity")  # nothing is ingested yet
    assert calls(capsys, world / "recipe.yaml", "probe.samples=9")["probe"]["calls"] == 9


def test_calibrations_that_cannot_be_read_are_none(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, remembered = done[0] / "recipe.yaml", done[0] / "store" / "rates.json"
    told(capsys, "estimate", str(recipe), "probe.samples=36")
    assert calls(capsys, recipe, "probe.samples=36")["probe"]["seconds"] > 0
    remembered.write_text("{")
    assert calls(capsys, recipe, "probe.samples=36")["probe"]["seconds"] is None
