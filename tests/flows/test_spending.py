"""The cost of a probe: counted by the probe, measured on the engine, and nothing of the probe done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from composer.artifact import Store
from flows.cli import invoke

Done = tuple[Path, dict[str, Any]]


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
