"""What stands in a block of a document is so: recipes are read, Python runs or at least imports, commands are parsed."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from flows.cli import app
from flows.recipe import Recipe, recipe_of

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "data_cards/**/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^|\n\n)((?:    .*\n)+)")
DOMAINS = ("law", "medicine", "code", "finance", "general")
OURS = ("composer", "probes", "flows")
PREFECT = "automations"
"""The one key of a block that Prefect reads and not we."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return [body for word, body in FENCE.findall(text_of(page)) if word == language]


def with_blocks(language: str) -> list[str]:
    return [page for page in PAGES if blocks(page, language)]


def whole(part: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe around a part of one, with the domains that the part speaks of."""
    sequence = part.get("sequence", ())
    domains = list(sequence) or [*DOMAINS, *(name for name in (part.get("domains") or ()) if name not in DOMAINS)]
    sources = [{"name": name, "path": f"{name}.jsonl", "domain": name} for name in domains]
    return {"name": "around", "base_model": {"path": "models/my-base"}, "sources": sources, **part}


@pytest.mark.parametrize("page", with_blocks("yaml"))
def test_recipes_and_their_parts_are_read(page: str) -> None:
    for block in blocks(page, "yaml"):
        part = yaml.safe_load(block)
        if PREFECT in part:
            continue
        assert isinstance(recipe_of(yaml.safe_dump(whole(part))), Recipe)


@pytest.mark.parametrize("page", with_blocks("python"))
def test_python_runs_as_a_doctest_or_imports_what_there_is(page: str) -> None:
    told = "\n".join(blocks(page, "python"))
    if ">>>" in told:
        test = doctest.DocTestParser().get_doctest(told, {}, page, page, 0)
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0
        return
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block, page)):
            if isinstance(node, ast.ImportFrom) and node.module:
                for each in node.names:
                    assert is_there(node.module, each.name), f"{node.module}.{each.name}"
            elif isinstance(node, ast.Import):
                assert all(find_spec(each.name) for each in node.names)


def is_there(module: str, name: str) -> bool:
    """Return whether a module has a name; other people's modules are only asked whether they are there."""
    if module.partition(".")[0] not in OURS:
        return find_spec(module.partition(".")[0]) is not None
    return hasattr(importlib.import_module(module), name) or find_spec(f"{module}.{name}") is not None


def commands(page: str) -> list[str]:
    """Return every line of a block that begins with our command, continued lines joined, comments and redirections cut."""
    found = [body for word, body in FENCE.findall(text_of(page)) if word in ("", "bash", "console")]
    found += INDENTED.findall(FENCE.sub("", text_of(page)))
    lines = re.sub(r"\\\n\s*", " ", "\n".join(found)).splitlines()
    told = [re.split(r"\s{2,}#|\s>\s", line.strip().removeprefix("$ "))[0] for line in lines]
    inline = re.findall(r"`(sft-composer [^`\n]*)`", FENCE.sub("", text_of(page)))
    return [line for line in (*told, *inline) if line.startswith("sft-composer ")]


def parsed(line: str) -> None:
    """Parse a command as the command line does, without carrying it out."""
    group: Any = typer.main.get_command(app)
    with group.make_context("sft-composer", shlex.split(line)[1:], resilient_parsing=False) as context:
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        if rest:  # named alone, a command is spoken of and not called
            command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_are_parsed(page: str) -> None:
    for line in commands(page):
        try:
            parsed(line)
        except typer.TyperException as error:
            pytest.fail(f"{page}: {line}: {error.format_message()}")


def test_a_command_that_does_not_exist_is_found() -> None:
    with pytest.raises(typer.TyperException, match="No such command"):
        parsed("sft-composer mixx mine.yaml")
    with pytest.raises(typer.TyperException, match="No such option"):
        parsed("sft-composer run mine.yaml --plan")
