"""The reference pages, whole: the recipe, the words of every family, and the commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from fields import page, paragraphs, parts, table

from composer.spec import Spec
from flows.cli import app
from flows.command import STAGE_COMMANDS
from flows.recipe import Recipe
from flows.stages import STAGES

Families = Mapping[str, Mapping[str, Any]]
MADE = "<!-- Written by docs/generate.py. -->"
ON_EVERY = ("--json", "--debug", "--store", "--plain", "--dry-run", "--rebuild")
"""Options that are told once, for all commands that take them."""


def links(families: Families) -> dict[type[Spec], str]:
    """Return where every spec is told: a member on its family's page, all others on that of the recipe."""
    members = {cls: f"{page(family)}#{word}" for family, words in families.items() for word, cls in words.items()}
    return {cls: f"recipe.md#{cls.__name__.lower()}" for cls in parts([Recipe, *members], members)} | members


def recipe(families: Families) -> str:
    """Return the page of the recipe's fields and of what stands within them."""
    where = links(families)
    lines = [
        "# The recipe, field by field", MADE,
        "One YAML document is the whole experiment. Unknown fields are refused by name, `key=value` overrides come after the "
        "file (`law.floor=0.05`, `sources.0.limit=100`). A field that is *no part of a key* says where or how fast a thing is "
        "made: to change it makes nothing anew.",
    ]  # fmt: skip
    for cls, place in where.items():
        if place.startswith("recipe.md"):
            lines += [f"## {cls.__name__}", *paragraphs(cls), table(cls, where=where)]
    return "\n\n".join(lines) + "\n"


def words(families: Families) -> str:
    """Return the page that lists the words of every family."""
    lines = [
        "# The words of a recipe", MADE,
        "A word is one file and one line: [extending](../extending.md). Its fields are on its family's page.",
        "| recipe field | word | what it does | source |\n| --- | --- | --- | --- |\n"
        + "\n".join(
            f"| `{family}` | [`{word}`]({page(family)}#{word}) | {cls.summary} | {source_of(cls)} |"
            for family, members in families.items()
            for word, cls in members.items()
        ),
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def family(name: str, families: Families) -> str:
    """Return the page of one family: what its members do, and their fields."""
    where, members = links(families), families[name]
    lines = [f"# {name}", MADE, f"One of {', '.join(f'[`{word}`](#{word})' for word in members)}."]
    for word, cls in members.items():
        source = [] if source_of(cls) == "-" else [f"Source: {source_of(cls)}."]
        lines += [f"## {word}", *paragraphs(cls), table(cls, where=where), *source]
    return "\n\n".join(lines) + "\n"


def source_of(cls: Any) -> str:
    """Return where a member comes from; a dash where it is nobody's."""
    return str(getattr(cls, "reference", "-"))


def stages() -> str:
    """Return the table of the stages."""
    lines = ["| command | leaves | what it does |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | `{STAGES[name].kind}` | {summary} |" for name, summary in STAGE_COMMANDS.items()]
    return "\n".join(lines)


def commands() -> str:
    """Return the page of the commands."""
    found: Any = typer.main.get_command(app)
    shared = {
        option: each
        for command in found.commands.values()
        for each in command.params
        for option in each.opts
        if option in ON_EVERY
    }
    lines = [
        "# The commands", MADE,
        "Exit codes: 0 done, 1 a check failed, 2 wrong input, 3 a fault. These options belong to all commands for which they "
        "make sense:",
        _options(shared[option] for option in ON_EVERY),
        "## Stages",
        "Each takes a recipe and `key=value` overrides, and does what is missing up to and with this stage.",
        stages(),
    ]  # fmt: skip
    for name, command in sorted(found.commands.items()):
        own = [each for each in command.params if not set(each.opts) & set(ON_EVERY)]
        if name in STAGE_COMMANDS and len(own) == 2:  # the recipe and its overrides
            continue
        lines += [f"## {name}", " ".join((command.help or "").split()), _options(own)]
    return "\n\n".join(lines) + "\n"


def _options(params: Any) -> str:
    lines = ["| what | meaning | default |", "| --- | --- | --- |"]
    for each in params:
        option = each.opts[0].startswith("-")
        name = each.opts[0] if option else each.name.upper() + ("..." if each.nargs == -1 else "")
        value = "required" if each.required else "-" if each.default in (None, False) else f"`{each.default}`"
        lines.append(f"| `{name}` | {(each.help or '').replace('|', chr(92) + '|')} | {value} |")
    return "\n".join(lines)
