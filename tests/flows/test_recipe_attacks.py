"""A recipe is values: it runs no code, swells into no millions, and names no place outside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import InputError, SpecError
from composer.manifest import is_inside
from flows.asked import asked_recipe
from flows.recipe import Recipe, recipe_of
from flows.yaml_text import MOST_VALUES, override_with, parse
from tests.conftest import small_recipe

CODE = (
    "!!python/object/apply:os.system ['touch ran']",
    "!!python/object/new:os.system ['touch ran']",
    "!!python/object/apply:builtins.exec [\"open('ran', 'w')\"]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object:flows.recipe.Recipe {}",
    "!!java.lang.Runtime x",
)


@pytest.mark.parametrize("value", CODE)
def test_a_tag_makes_no_object(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = yaml.safe_dump(small_recipe()) + f"\nflow: {value}\n"
    with pytest.raises(SpecError, match="broken YAML: could not determine a constructor"):
        recipe_of(text)
    with pytest.raises(SpecError, match="broken YAML"):
        asked_recipe(None, text)  # what Prefect's page hands on
    with pytest.raises(InputError, match="the value of an override is not YAML"):
        recipe_of(yaml.safe_dump(small_recipe()), [f"flow={value}"])
    assert not (tmp_path / "ran").exists()


def bomb(levels: int, width: int) -> str:
    """Nested aliases that stand for ``width ** levels`` values."""
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize("text", [
    bomb(9, 9), bomb(30, 2), bomb(60, 9), "a: &a [*a]", "a: &a {b: {c: *a}}",
    bomb(7, 7).replace("[", "{k: [").replace("]", "]}"),
])  # fmt: skip
def test_aliases_do_not_swell(text: str) -> None:
    with pytest.raises(SpecError, match=f"broken YAML: more than {MOST_VALUES:,} values"):
        parse(text)
    with pytest.raises(InputError, match="the value of an override is not YAML"):
        override_with({}, f"a={{{', '.join(text.splitlines())}}}")


def test_an_alias_that_repeats_what_is_there_is_taken() -> None:
    assert parse("base: &b {rank: 4}\nown: [*b, *b]")["own"] == [{"rank": 4}] * 2
    assert len(parse(f"rows: [{', '.join(['1'] * 2_000)}]")["rows"]) == 2_000


@pytest.mark.parametrize(
    "value", ["[" * 1_500, "{a: " * 1_500, "9" * 5_000, "2001-13-45", "0o9", "!!float x", "!!int ''", "\0"]
)
def test_what_yaml_stumbles_over_is_one_line(value: str) -> None:
    with pytest.raises(SpecError, match="broken YAML"):
        parse(f"name: {value}" if not value.startswith("0o") else f"name: !!int {value}")


@given(st.text(st.sampled_from("ab:&*!<>[]{}-#'\"|?, \n0.~"), max_size=60))
@settings(max_examples=300)
def test_any_text_is_values_or_one_error(text: str) -> None:
    try:
        found: Any = parse(text)
    except SpecError:
        return
    assert isinstance(found, dict)


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc", "a\0", "a\n", "", "a b", "..\\x", "a:b"])
@pytest.mark.parametrize("field", ["name", "domain", "source", "limit"])
def test_a_name_that_becomes_a_path_holds_no_way_out(field: str, name: str) -> None:
    data = small_recipe()
    if field == "name":
        data["name"] = name
    elif field == "limit":
        data["flow"] = {"gpu": {"limit": name}}
    else:
        data["sources"][0]["domain" if field == "domain" else "name"] = name
    with pytest.raises(SpecError):
        Recipe(**data)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b.txt", "\\", "C:", "\0", "~"]), min_size=1, max_size=5).map("/".join))
def test_what_is_inside_stays_inside(name: str) -> None:
    here = Path("/store/kind/key")
    if is_inside(name):
        assert Path("/store/kind/key", name).resolve().is_relative_to(here)
        assert Path("/store/kind/key", name).resolve() != here
