"""`probe diff`: two probes side by side, refused where they cannot be compared and qualified where they hardly can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from composer.artifact import Artifact, Store
from composer.errors import InputError, SpecError
from composer.fingerprint import write_json
from composer.types import KnowledgeDistribution
from flows.cli import invoke
from flows.diff import diff
from probes.knowledge.bootstrap import RESAMPLES, write_resamples

DOMAINS = ("law", "medicine", "code")


def probed(folder: Path, p: tuple[float, ...], *, bare: bool = False, **fields: Any) -> str:
    """Write what a probe of 400 certain judgements leaves, and return the path."""
    folder.mkdir()
    known = {"domains": DOMAINS, "judge": "classifier 01", "probe": "self_generation", "accuracy": 0.9, "n": 400, **fields}
    again = np.random.default_rng(0).multinomial(400, p, size=1000) / 400
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    known |= {"p": p, "stderr": tuple(again.std(axis=0)), "low": tuple(low), "high": tuple(high)}
    write_json(folder / "knowledge.json", KnowledgeDistribution(**known).model_dump(mode="json"))
    if not bare:
        write_resamples(folder / RESAMPLES, again, known["domains"])
    return str(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_difference_has_an_interval_and_turns_with_the_order(tmp_path: Path, store: Store) -> None:
    a, b = probed(tmp_path / "a", (0.6, 0.3, 0.1)), probed(tmp_path / "b", (0.4, 0.3, 0.3))
    there, back = diff(a, f"{b}/knowledge.json", store=store), diff(b, a, store=store)
    assert [each["domain"] for each in there["domains"]] == list(DOMAINS)
    assert [each["difference"] for each in there["domains"]] == pytest.approx([-0.2, 0.0, 0.2])
    law, medicine, _ = there["domains"]
    assert (law["a"], law["b"]) == (0.6, 0.4)
    assert law["low"] < -0.2 < law["high"] < 0
    assert law["high"] - law["low"] == pytest.approx(2 * 1.96 * np.sqrt(2 * 0.24 / 400), rel=0.1)
    assert medicine["low"] < 0 < medicine["high"]
    by = there["total_variation"]
    assert by["low"] < by["value"] < by["high"]
    assert by["value"] == pytest.approx(0.2)
    assert by["low"] > 0.1
    assert back["total_variation"]["value"] == by["value"]
    assert back["domains"][0]["difference"] == -law["difference"]
    assert there["warnings"] == []


def test_domains_are_matched_by_name(tmp_path: Path, store: Store) -> None:
    a = probed(tmp_path / "a", (0.6, 0.3, 0.1))
    b = probed(tmp_path / "b", (0.1, 0.6, 0.3), domains=("code", "law", "medicine"))
    document = diff(a, b, store=store)
    assert [each["difference"] for each in document["domains"]] == [0, 0, 0]
    assert all(each["low"] < 0 < each["high"] for each in document["domains"])


def test_what_cannot_be_compared_is_refused(tmp_path: Path, store: Store) -> None:
    a = probed(tmp_path / "a", (0.6, 0.3, 0.1))
    other = probed(tmp_path / "domains", (0.6, 0.3, 0.1), domains=("law", "medicine", "chess"))
    with pytest.raises(InputError, match="speak of other domains; expected law, medicine, code; got law, medicine, chess"):
        diff(a, other, store=store)
    other = probed(tmp_path / "probe", (0.6, 0.3, 0.1), probe="perplexity")
    with pytest.raises(InputError, match="other probes, whose shares mean other things; expected self_generation; got perpl"):
        diff(a, other, store=store)
    with pytest.raises(InputError, match="no such artifact; got nothing; kinds here: none yet"):
        diff(a, "nothing", store=store)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match=r"x\.json: no knowledge can be read: .*; expected a knowledge\.json"):
        diff(a, str(tmp_path / "x.json"), store=store)
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(InputError, match=r"x\.json: not what a probe leaves; expected a JSON object; got list"):
        diff(a, str(tmp_path / "x.json"), store=store)
    (tmp_path / "x.json").write_text('{"domains": ["a"]}')
    with pytest.raises(SpecError, match=r"x\.json\.p: missing field of KnowledgeDistribution"):
        diff(a, str(tmp_path / "x.json"), store=store)
    with pytest.raises(InputError, match=r"knowledge\.json: no knowledge can be read: .*No such file"):
        diff(a, str(tmp_path), store=store)


def test_other_judges_and_missing_resamples_are_warned_of(tmp_path: Path, store: Store) -> None:
    a = probed(tmp_path / "a", (0.6, 0.3, 0.1))
    other = probed(tmp_path / "b", (0.4, 0.3, 0.3), judge="classifier 02", bare=True)
    document = diff(a, other, store=store)
    judges, normal = document["warnings"]
    assert "other judges, classifier 01 and classifier 02" in judges
    assert f"no {RESAMPLES} beside {other}" in normal
    law = document["domains"][0]
    assert law["high"] - law["low"] == pytest.approx(2 * 1.96 * np.sqrt(2 * 0.24 / 400), rel=0.1)
    [line] = diff(a, probed(tmp_path / "c", (0.4, 0.3, 0.3), judge=""), store=store)["warnings"]
    assert f"{tmp_path / 'c'} does not say who judged" in line


def test_where_nobody_judged_there_is_no_judge_to_warn_of(tmp_path: Path, store: Store) -> None:
    unjudged = {"judge": "", "accuracy": None, "probe": "perplexity"}
    sides = [probed(tmp_path / name, (0.6, 0.3, 0.1), **unjudged) for name in "ab"]
    assert diff(*sides, store=store)["warnings"] == []


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = invoke([str(argument) for argument in arguments])
    seen = capsys.readouterr()
    return code, seen.out, seen.err


def test_the_command_has_two_words_beside_the_stage_of_one(
    done: tuple[Path, dict[str, Artifact]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, artifacts = done
    other = probed(tmp_path / "other", (0.2, 0.3, 0.5))
    arguments = ("probe", "diff", f"knowledge/{artifacts['probe'].key}", other, "--store", folder / "store")
    code, out, _ = call(capsys, *arguments, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["a"]["reference"] == arguments[2]
    assert document["domains"][0]["a"] == artifacts["probe"].json("knowledge.json")["p"][0]
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    for words in (
        "What changed from a to b",
        "medicine",
        "Total variation 0.",
        "warning: other judges",
        "Differences are b - a",
    ):
        assert words in " ".join(out.split())
    code, out, _ = call(capsys, "probe", folder / "recipe.yaml", "--plain", "--dry-run", "--store", folder / "store")
    assert code == 0
    assert "Plan of small" in out
    code, _, err = call(capsys, "probe", "diff", "--store", folder / "store")
    assert code == 2
    assert "Missing argument 'a'" in err
    code, _, err = call(capsys, "probe", "diff", "base", other, "--store", folder / "store")
    assert code == 2
    assert "base: not what a probe leaves; expected kind knowledge; got base" in err


def test_help_lists_both(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    lines = [line.split("  ") for line in out.splitlines()]
    assert {"probe", "probe diff"} <= {words[1].strip() for words in lines if len(words) > 2}
    assert "Compare what two probes found" in call(capsys, "probe", "diff", "--help")[1]
