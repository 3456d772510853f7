"""The command ``prove``: from a recipe or an export to planned and realised shares, and the promised exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.cli import invoke

EXPORTS = "exports=[trl, {name: oumi, carry: weights}, parquet]"


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    code = invoke([str(argument) for argument in arguments])
    seen = capsys.readouterr()
    return code, json.loads(seen.out) if "--json" in arguments else seen.out, seen.err


def test_a_recipe_is_exported_and_proven(done: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(done[0] / "store", tmp_path / "store")
    recipe, store = (done[0] / "recipe.yaml", EXPORTS), ("--store", tmp_path / "store")
    code, _, err = call(capsys, "prove", *recipe, *store)
    assert code == 2
    assert "not exported yet; sft-composer export" in err
    assert call(capsys, "export", *recipe, "--plain", *store)[0] == 0

    code, found, _ = call(capsys, "prove", *recipe, "--tolerance", 0, "--target", "trl", "--json", *store)
    assert code == 0
    assert [(proof["target"], proof["off_by"], proof["holds"]) for proof in found["proofs"]] == [("trl", 0, True)]
    code, text, _ = call(capsys, "prove", "export", "--tolerance", 0.2, *store)
    assert code == 0
    assert "trl, by rows: shares" in text
    assert "oumi, by weights: shares" in text
    code, _, err = call(capsys, "prove", "export", "--target", "tlr", *store)
    assert code == 2
    assert "not exported for this trainer; got tlr; did you mean 'trl'?" in err
    assert call(capsys, "prove", "mixture", *store)[0] == 2

    copy = tmp_path / "copy"
    shutil.copytree(next((tmp_path / "store/export").glob("*/oumi")).parent, copy)
    config = copy / "oumi/train.yaml"
    config.write_text(config.read_text().replace("sample_count: ", "sample_count: 9", 1))
    code, found, err = call(capsys, "prove", "export", "--at", copy, "--tolerance", 0.2, "--json", *store)
    assert code == 1
    assert [proof["holds"] for proof in found["proofs"]] == [True, False]
    assert "prove: shares are off; expected at most 0.2; got oumi 0." in err


def test_an_export_for_no_trainer_says_which_there_are(done: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = done
    code, _, err = call(capsys, "prove", folder / "recipe.yaml", "--store", folder / "store")
    assert code == 2
    assert "exports: exported for no trainer; add one of trl, axolotl, llama_factory" in err
