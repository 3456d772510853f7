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
    for name in ("evidence", "excerpts"):
        sys.modules.pop(name, None)


@pytest.fixture
def excerpts(evidence: Any) -> Any:  # noqa: ARG001
    import excerpts

    return excerpts


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


def test_adapters_are_compared_in_new_and_old_skill_together(evidence: Any, excerpts: Any, tmp_path: Path) -> None:
    skills = {"full": ((0.4, 0.4), (0.6, 0.6)), "lota": ((0.75, 0.375), (1.0, 2 / 3)), "lora": ((0.0, 0.5), (0.5, 0.0))}
    runs = [
        {"arm": arm, "world": 1, "seed": seed, "new": new, "old": old}
        for arm, each in skills.items()
        for seed, (new, old) in enumerate(each)
    ]
    tables = {of: [row("full", 0.5), row("lota", 0.75, **GAP), row("lora", 0.25, **GAP)] for of in ("new", "retained", "text")}
    costs = [{"arm": arm, "rate": 2e-4, "parameters": 1_000, "optimizer_mb": 5.25, "seconds": 4.0} for arm in skills]
    write(tmp_path, "adapters", control="full", tables=tables, runs=runs, costs=costs)
    assert [line.split(" | ")[6:8] for line in evidence.TABLES["adapters"]().splitlines()[2:]] == [
        ["0.500", "-"],
        ["0.650", "+0.150 (-0.485 to +0.785)"],  # harmonic means of 0.5 and 0.8
        ["0.000", "-0.500 (-1.771 to +0.771)"],  # 12.706 times 0.2 / sqrt(2) over sqrt(2)
    ]
    assert [line.split(" | ")[3] for line in excerpts.ADAPTER().splitlines()[2:]] == ["0.500", "0.650", "0.000"]
    assert excerpts.adapters("lota")().splitlines()[2:] == [
        "| full | 0.500 | - | 0.500 | - | 0.500 | - | +0.500 | - |",
        "| lota | 0.750 | -0.050 (-0.100 to -0.001) | 0.750 | -0.050 (-0.100 to -0.001) | 0.650 | +0.150 (-0.485 to +0.785) "
        "| +0.750 | -0.050 (-0.100 to -0.001) |",
    ]


def test_domains_stand_by_what_the_base_knows_of_them(evidence: Any, tmp_path: Path) -> None:
    runs = [
        {"arm": arm, "world": world, "seed": seed, "by_domain": {"law": law, "code": code}}
        for world in (1, 2)
        for arm, seed, law, code in (
            ("uniform", 1, 0.2, 0.5), ("uniform", 2, 0.4, 0.5), ("uniform", 9, 0.9, 0.9),
            ("knowledge", 1, 0.1, 0.4), ("knowledge", 2, 0.1, 0.6 + 0.2 * world),
        )
    ]  # fmt: skip
    sizes = {"seeds": [1, 2], "knows": {"1": [0.05, 0.95], "2": [0.09, 0.91]}}
    write(tmp_path, "laws", tables={}, sizes=sizes, runs=runs)
    assert evidence.TABLES["shares"]().splitlines()[2:] == [
        "| below 10 % | 2 | 0.300 | 0.100 | -0.200 (-0.200 to -0.200) |",
        "| above 25 % | 2 | 0.500 | 0.650 | +0.150 (-0.485 to +0.785) |",
    ]


def test_laws_stand_with_what_was_asked_again(excerpts: Any, tmp_path: Path) -> None:
    assert excerpts.LAW() == excerpts.SHARE() == excerpts.REPLAY() == "Not measured yet."
    first = {of: [row("uniform", 0.2), row("inverse", 0.25, **GAP)] for of in ("known", "loss")}
    write(tmp_path, "laws", tables=first, again={of: [row("uniform", 0.2), row("inverse", 0.1, **GAP)] for of in first})
    told = "-0.050 (-0.100 to -0.001) | < 0.001 | -0.050 (-0.100 to -0.001) | < 0.001"
    lines = excerpts.LAW().splitlines()[2:]
    assert lines == [f"| inverse | 12 | {told} |", f"| inverse, asked again | 12 | {told} |"]


def test_shares_stand_with_their_claims_and_policies_with_their_gains(excerpts: Any, tmp_path: Path) -> None:
    claims = [{"arm": "alone", "target_kept": 1.0, "loss_cut": 0.0}, {"arm": "90 %", "target_kept": 0.9, "loss_cut": 0.5}]
    write(tmp_path, "expansion", tables={"target": [row("alone", 0.5), row("90 %", 0.4, **GAP)]}, claims=claims)
    assert excerpts.SHARE().splitlines()[2:] == ["| 90 % | 12 | 90.0 % | -0.050 (-0.100 to -0.001) | 50.0 % |"]
    tables = {of: [row("stratified", 0.5), row("none", 0.1, **GAP)] for of in ("exact_match", "gain")}
    write(tmp_path, "replay_policies", tables=tables)
    told = "-0.050 (-0.100 to -0.001) | < 0.001 | -0.050 (-0.100 to -0.001)"
    assert excerpts.REPLAY().splitlines()[2:] == [f"| `none` | 12 | {told} |"]
