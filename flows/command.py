"""What every command takes, how it gives its one result, and commands of two words beside commands of one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from composer.printable import printable
from flows.words import override_words

RecipePath = Annotated[str, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value after the recipe, such as law.floor=0.05.", autocompletion=override_words),
]
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
Mixed = Annotated[str, typer.Argument(help="A mixture, a composition or an export.", show_default=False)]


PANELS = ("Start", "Stages", "Use", "Look", "Schedule")
"""Groups of commands, in the order in which the help shows them."""

# Named here so that --help needs no heavy import; a test compares them with flows.stages.STAGES.
STAGE_COMMANDS = {
    "base": "Train a small base model on documents of a known mixture",
    "ingest": "Read every source into samples; what is dropped is kept with its reason",
    "pool": "Join the sources, drop copies across them and hold rows out for measuring",
    "embed": "Embed every unique instruction once",
    "embed-rows": "Embed every sample: its messages, one below the other",
    "answers": "Number the answers, so that rows can be spread over them; equal texts have equal numbers",
    "tag": "Give every unique instruction its tags",
    "score": "Score every instruction by its InsInfo among those of its phase and the phases before",
    "cluster": "Group the instructions that lie near each other, name the groups by their tags, and lay them out as a map",
    "probe": "Measure what the base model knows of every domain",
    "compare": "Compare every pair of domains by the transport distance of their instructions",
    "cover": "Map which instructions of earlier phases the new ones of every phase leave uncovered",
    "interfere": "Measure how far the new rows of every phase answer otherwise what earlier rows near them answer",
    "mix": "Decide the weight of every target domain",
    "replay": "Plan how much of what is trained on, when, with the replay of earlier domains",
    "compose": "Choose the rows and their order; report planned and realised shares",
    "export": "Write the mixed dataset in every wanted format, with its data card",
    "reference": "Find what the held-out loss of every domain comes down to when the model is trained on it alone, briefly",
    "mask": "Find which entries of the model a phase is to train: those that move furthest in a short full training",
    "train": "Train phase after phase on the composition",
    "evaluate": "Measure loss and exact match of every domain on held-out rows",
    "retain": "Say what was learned, kept and forgotten from stage to stage",
}


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

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - what is overridden
        """Write the commands in groups, each with the whole of its one sentence."""
        for panel in PANELS:
            with formatter.section(panel):
                known: dict[str, Any] = dict(self.commands)
                rows = [(name, each.help) for name, each in known.items() if each.rich_help_panel == panel]
                formatter.write_dl(rows)


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
        text = json.dumps(document, ensure_ascii=False, indent=2, default=str)
        sys.stdout.write(printable(text, how="\\u{:04x}".format) + "\n")
    else:
        show()
