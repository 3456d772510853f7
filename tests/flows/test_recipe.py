"""A recipe refuses what it does not know; every recipe of the project can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from composer.errors import InputError, SpecError
from flows.recipe import Recipe, read_recipe
from flows.yaml_text import override_with, parse

ROOT = Path(__file__).parents[2]


def changed(world: Path, **changes: Any) -> Recipe:
    data = yaml.safe_load((world / "recipe.yaml").read_text())
    return Recipe(**{**data, **changes})


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("flows/recipes/*.yaml"), *ROOT.glob("flows/demo/*.yaml")]), ids=lambda p: p.stem
)
def test_the_recipes_of_the_project_can_be_read(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.order
    assert set(recipe.targets) <= set(recipe.order)


def test_a_recipe_round_trips_through_yaml(world: Path) -> None:
    recipe = read_recipe(world / "recipe.yaml")
    assert Recipe(**yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))) == recipe


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budgett": {}}, r"budgett: unknown field of Recipe; did you mean 'budget'\?"),
        ({"law": {"name": "uniforn"}}, r"law\.name: unknown law 'uniforn'; did you mean 'uniform'\?"),
        ({"law": {"name": "knowledge", "flor": 0.1}}, r"law\.flor: unknown field of Knowledge; did you mean 'floor'\?"),
        ({"probe": {"name": "self_generation", "judge": {"name": "clasifier"}}}, r"probe\.judge\.name: unknown judge"),
        ({"exports": ["parquet", "parket"]}, r"exports\.1\.name: unknown exporter 'parket'; did you mean 'parquet'\?"),
        ({"budget": {"unit": "words"}}, r"budget\.unit: input should be 'loss_tokens', 'tokens' or 'samples'; got 'words'"),
        ({"sequence": ["law", "lwa"]}, r"sequence: no source feeds domain 'lwa'; did you mean 'law'\?"),
        ({"sequence": ["law", "code"]}, r"sequence: target domains are left out; got medicine; add them"),
        ({"only": ["law", "codde"]}, r"only: no source feeds domain 'codde'; did you mean 'code'\?"),
        ({"domains": ["law"]}, r"sources\.medicine: domain 'medicine' is not listed; expected law"),
        ({"base_model": {}}, r"base_model: give either path, or train with corpora"),
        ({"base_model": {"path": "x", "revison": "y"}}, r"base_model\.revison: unknown field"),
        ({"sources": []}, r"sources: .*at least 1 item"),
        ({"name": "a b"}, r"name: string should match pattern"),
    ],
)
def test_wrong_fields_are_named(world: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        changed(world, **changes)


@pytest.mark.parametrize("only", [["code", "law"], "law"])
def test_a_recipe_narrowed_down_is_that_of_its_domains_alone(world: Path, only: Any) -> None:
    recipe = changed(world, only=only, sequence=["code", ["medicine", "law"]])
    wanted = {only} if isinstance(only, str) else set(only)
    assert recipe.targets == tuple(domain for domain in ("law", "medicine", "code") if domain in wanted)
    assert recipe.sequence == ((("code",), ("law",)) if "code" in wanted else (("law",),))
    assert {source.domain for source in recipe.sources} == wanted
    assert {source.role for source in recipe.sources} == {"target", "reference"}
    assert Recipe(**yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))) == recipe


def test_two_sources_share_no_name(world: Path) -> None:
    data = yaml.safe_load((world / "recipe.yaml").read_text())
    with pytest.raises(SpecError, match="sources: two sources share a name; got law"):
        Recipe(**{**data, "sources": [*data["sources"], data["sources"][0]]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "line 1: broken YAML"),
        ("a: 1\na: 3", "line 2: broken YAML: key 'a' is given twice"),
        ("- 1", "not a recipe"),
        ("{[a]: 1}", "line 1: broken YAML: found unhashable key"),
        ("!!python/object/apply:os.system ['true']", "broken YAML: could not determine a constructor"),
    ],
)
def test_broken_yaml_is_one_line_with_its_place(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse(text)


def test_a_missing_recipe_and_one_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="RECIPE: no such recipe; expected a YAML file"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="not UTF-8"):
        read_recipe(tmp_path / "x.yaml")


def test_a_broken_recipe_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: x\n  bad: [1")
    with pytest.raises(SpecError, match=r"x\.yaml, line 2: broken YAML"):
        read_recipe(tmp_path / "x.yaml")


def test_overrides_come_after_the_file(world: Path) -> None:
    recipe = read_recipe(world / "recipe.yaml", ["law=uniform", "budget.amount=9", "sources.0.limit=5", "tags=null"])
    assert (recipe.law.name, recipe.budget.amount, recipe.sources[0].limit, recipe.tags) == ("uniform", 9, 5, None)


@pytest.mark.parametrize(
    ("override", "says"),
    [("seed", "not an override"), ("=1", "not an override"), ("sources.9.limit=1", "no such list item; expected 0 to 5; got 9"),
     ("law=[", "is not YAML")],
)  # fmt: skip
def test_wrong_overrides(world: Path, override: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_recipe(world / "recipe.yaml", [override])


def test_an_override_turns_a_word_into_a_mapping() -> None:
    assert override_with({"law": "temperature"}, "law.temperature=2") == {"law": {"name": "temperature", "temperature": 2}}


def test_paths_start_at_root(world: Path) -> None:
    recipe = read_recipe(world / "recipe.yaml")
    assert recipe.located(recipe.sources[0]).path == str(world / "law.jsonl")
    for name in ("org/data", "org/data-v1.5"):
        hub = recipe.sources[0].model_copy(update={"path": name})
        assert recipe.located(hub).path == name
