"""What every command takes, how it gives its one result, and commands of two words beside commands of one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

RecipePath = Annotated[str, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value after the recipe, such as law.floor=0.05.")]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Folder of the artifacts (default: the recipe's, or ./store).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="Run in this process, without Prefect.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")]
RebuildOption = Annotated[bool, typer.Option("--rebuild", help="Build again what is there and report drift.")]
Reference = Annotated[str, typer.Argument(help="kind, key, kind/key or the beginning of a key.")]
Known = Annotated[
    str, typer.Argument(help="A knowledge artifact, or the path of a knowledge.json or its folder.", show_default=False)
]


@dataclass
class State:
    """What the running command was asked for, and whether its one document is on stdout."""

    json: bool = False
    debug: bool = False
    given: bool = False


state = State()


class Words(TyperGroup):
    """Commands of two words, such as ``probe diff``, beside one of their first word alone, which takes arguments."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first two words name, or else the first."""
        two = " ".join(args[:2])
        return super().resolve_command(ctx, [two, *args[2:]] if two in self.commands else args)


def begin(as_json: bool, debug: bool) -> None:
    """Set what a command was asked for, and show its progress."""
    state.json, state.debug = as_json, debug
    from composer.progress import listener
    from flows.screen import Screen

    listener.set(Screen())


def give(document: Any, show: Callable[[], None]) -> None:
    """Give a command's result: as JSON, or as a person reads it."""
    state.given = True
    if state.json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, default=str) + "\n")
    else:
        show()
