"""What `show` prints of a mask: how dense it is in every kind of matrix, and what earlier masks hold."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from composer.artifact import Artifact
from flows.screen import table


def mask_view(artifact: Artifact) -> list[Any]:
    """Return the account of a mask."""
    told = artifact.json("mask.json")
    rows = [
        (kind, each["matrices"], each["entries"], each["kept"], each["density"], each["earlier"] / each["entries"])
        for kind, each in told["kinds"].items()
    ]
    title = f"Mask: {told['kept']:,} of {told['entries']:,} entries ({told['density']:.2%}), scope {told['scope']}"
    columns = ("matrices", "n", "entries", "kept", "density", "earlier masks")
    made = f"Made by {told['steps']:,} steps of full training on {told['rows']:,} rows."
    if told["kept"] < told["wanted"]:
        made += f" {told['wanted']:,} were wanted; the others did not move."
    if told["earlier"]:
        made += f" Earlier masks keep {told['earlier']:,} entries; the overlap with them is {told['overlap']:.0%}."
    return [table(title, columns, rows), Text(made)]
