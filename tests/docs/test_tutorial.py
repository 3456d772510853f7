"""The tutorial, from top to bottom: its script, its recipe and its commands, at a size that takes seconds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli import invoke

PAGE = (Path(__file__).parents[2] / "docs/tutorial.md").read_text(encoding="utf-8")
SMALL: dict[str, Any] = {"documents": 150, "hidden": 64, "heads": 2, "layers": 1, "threads": 1}


def block(language: str) -> str:
    [found] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python").replace("range(150)", "range(6)"), "docs/tutorial.md", "exec"), {})
    recipe = yaml.safe_load(block("yaml"))
    recipe["base_model"]["train"] |= SMALL
    recipe["probe"] |= {"samples": 40, "max_new_tokens": 12}
    recipe["budget"] |= {"amount": 150}
    recipe["train"] |= {"threads": 1}
    recipe["evaluate"] = {"max_samples": 4}
    Path("mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    lines = [line.strip() for line in re.findall(r"^    (sft-composer .*)$", PAGE, re.MULTILINE)]
    assert [line.split()[1] for line in lines].count("run") == 3
    said = {}
    for line in lines:
        code = invoke(shlex.split(line)[1:])
        said[line] = capsys.readouterr().out
        assert code == 0, line
    assert "1 duplicate" in said["sft-composer doctor data/"]
    assert "planned and realised" in said["sft-composer run mine.yaml --plain"]
    assert "law.name" in said["sft-composer why mixture"]
    assert Path("mix.png").is_file()
    assert len(list(Path("store/export").glob("*/trl"))) == 2
