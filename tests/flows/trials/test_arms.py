"""Arms as the command line says them."""

from __future__ import annotations

from pathlib import Path

import pytest

from composer.artifact import Store
from composer.errors import InputError
from flows.cli import invoke
from flows.trials.arms import Arm, read_arm, read_arms
from flows.trials.running import preview
from tests.flows.trials.test_trials import lay, of


def test_arms_are_read_from_words() -> None:
    assert read_arm("recipe") == Arm(name="recipe")
    for text in ("", "law=uniform"):
        with pytest.raises(InputError, match="an arm without a name"):
            read_arm(text)
    for text in ("law", "law=", "=uniform", "law={name: uniform"):
        with pytest.raises(InputError, match="no list of arms"):
            read_arms(text)


def test_arms_that_replay_unlike_amounts_are_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sequence = ["law", "medicine", "code"]
    path = lay(tmp_path, sequence=sequence, replay={"name": "random", "per_task": 5}, embed={"name": "lexical", "dims": 8})
    [warning] = preview(of(path, *read_arms("replay=spread")), Store(tmp_path / "store"))["warnings"]
    assert warning.startswith("arms replay unlike amounts per earlier task: random 5, stratified 5, padding 5, spread 200;")
    assert preview(of(path, *read_arms("replay.name=spread,coverage")), Store(tmp_path / "store"))["warnings"] == []
    assert invoke(["trial", str(path), "--arms", "replay=spread", "--seeds", "2", "--dry-run"]) == 0
    assert "warning: arms replay unlike amounts per earlier task: random 5" in capsys.readouterr().out
