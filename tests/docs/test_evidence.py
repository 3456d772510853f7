"""The tables of evidence say what was measured, to the digit, and nothing of what was not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import evidence

    monkeypatch.setattr(evidence, "RESULTS", tmp_path)
    yield evidence
    del sys.modules["evidence"]


def row(arm: str, mean: float, **gap: Any) -> dict[str, Any]:
    return {"arm": arm, "pairs": 12, "mean": mean, **gap}


GAP = {"difference": -0.0504, "low": -0.1, "high": -0.0008, "low_corrected": -0.12, "high_corrected": 0.02, "p_holm": 0.0004}


def write(folder: Path, name: str, **found: Any) -> None:
    told = {"machine": "a machine", "commit": "abc", "control": "stratified", **found}
    (folder / f"{name}.json").write_text(json.dumps(told), encoding="utf-8")


def test_a_row_has_its_mean_its_difference_and_a_corrected_p(evidence: Any, tmp_path: Path) -> None:
    exact = [row("stratified", 0.25), row("none", 0.1996, **GAP)]
    write(
        tmp_path, "replay_policies", tables={"exact_match": exact, "gain": [row("stratified", 0.5), row("none", 0.02, **GAP)]}
    )
    lines = evidence.TABLES["replay"]().splitlines()
    assert lines[2] == "| `stratified` | 12 | 0.250 | - | - | - | 50.0 % | - |"
    assert lines[3].startswith(
        "| `none` | 12 | 0.200 | -0.050 (-0.100 to -0.001) | -0.050 (-0.120 to +0.020) | < 0.001 | 2.0 % |"
    )
    assert evidence.TABLES["made-with"]().splitlines()[2:] == ["| `benchmarks/replay_policies.py` | `abc` | a machine |"]


def test_what_was_not_measured_has_no_numbers(evidence: Any, tmp_path: Path) -> None:
    write(tmp_path, "laws", ratios=[])
    assert {make() for name, make in evidence.TABLES.items() if name != "made-with"} == {"Not measured yet."}
    assert evidence.summary() == "Not measured yet."


def test_the_probe_has_a_line_for_every_mixture_and_one_for_all(evidence: Any, tmp_path: Path) -> None:
    costs = {
        f"{mixture} {seed}": {"total variation": value}
        for mixture, seed, value in (("A", 1, 0.02), ("A", 2, 0.04), ("B", 1, 0.06))
    }
    write(tmp_path, "probe_truth", ratio=0.04, sizes={"even_guess": 0.3}, costs=costs)
    assert evidence.TABLES["probe"]().splitlines()[2:] == [
        "| A | 2 | 0.030 | 0.020 | 0.040 |", "| B | 1 | 0.060 | 0.060 | 0.060 |", "| all | 3 | **0.040** | 0.020 | 0.060 |",
        "| guessing equal shares | 3 | 0.300 | - | - |",
    ]  # fmt: skip
