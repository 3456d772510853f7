"""The pages say what is so: the Python page runs, the README's recipe is one, its tables and commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import composer
from flows.recipe import Recipe, read_recipe

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_every_public_name_is_there_and_documented() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name in composer.__all__:
        assert getattr(composer, name).__doc__, name
        assert f"`{name}`" in page, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        composer.nothing  # noqa: B018


def test_the_recipe_of_the_readme_is_one() -> None:
    [text] = blocks("README.md", "yaml")
    recipe = Recipe(**yaml.safe_load(text))
    assert recipe.targets == ("law", "code")


def test_the_overrides_that_the_readme_shows_are_taken() -> None:
    shown = re.findall(r"sft-composer \w+ (flows/\S+\.yaml) (\S+=[^\s`]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown
    for recipe, override in shown:
        assert read_recipe(ROOT / recipe, [override])


def test_no_page_bears_a_path_of_a_machine() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("data_cards/**/*.md")]:
        assert not re.search(r"(?<![\w.])/(work|root|home|tmp)/", path.read_text(encoding="utf-8")), path.name


def test_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_world: Any) -> None:
    small_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    for block in blocks("docs/python.md", "python"):
        exec(compile(block, "docs/python.md", "exec"), {})
    assert (tmp_path / "out" / "pool" / "samples.parquet").is_file()
    assert list((tmp_path / "store" / "composition").iterdir())


def test_the_page_of_schedules_speaks_of_words_that_there_are() -> None:
    from flows.conduct import Conduct

    conduct, automations = (yaml.safe_load(block) for block in blocks("docs/schedule.md", "yaml"))
    assert Conduct(**conduct["flow"]).of("train").retries == 0
    assert [each["trigger"]["type"] for each in automations["automations"]] == ["event", "event"]


def test_the_page_of_trials_speaks_of_words_that_there_are() -> None:
    from flows.trials.spec import Trial

    [block] = (yaml.safe_load(block) for block in blocks("docs/trials.md", "yaml"))
    assert set(Trial(**block["trial"]).arms) == {"knowledge", "slow"}
