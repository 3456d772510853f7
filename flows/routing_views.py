"""What `show` and `picture` tell of a training with experts: which share of a domain's tokens each of them had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from composer import tables
from composer.artifact import Artifact
from flows.screen import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "routing.parquet"


def averaged(artifact: Artifact) -> pl.DataFrame:
    """Return the shares of a trained model's experts, averaged over its maps: expert, type, and a column for each domain."""
    found = tables.read(artifact.file(FILE), tables.ROUTING)
    return found.pivot("domain", index=["expert", "type"], values="share", aggregate_function="mean")


def routing_view(artifact: Artifact) -> list[Any]:
    """Return a table expert x domain, if the model has experts."""
    if FILE not in artifact.manifest.files:
        return []
    shares = averaged(artifact)
    title = "Experts: mean share of a domain's tokens, over all maps and all of training"
    rows = [(f"{expert} ({kind})", *own) for expert, kind, *own in shares.iter_rows()]
    return [table(title, ("expert", *shares.columns[2:]), rows)]


def draw_routing(artifact: Artifact, figure: Figure) -> None:
    """Draw a heat map domain x expert whose colours stand around an even share."""
    shares = averaged(artifact)
    domains, value = shares.columns[2:], shares[:, 2:].to_numpy().T
    even = 1 / shares.height
    reach = max(abs(value - even).max(), 1e-9)
    figure.set_size_inches(2.5 + 0.8 * shares.height, 1.8 + 0.42 * len(domains))
    axes = figure.add_subplot()
    mesh = axes.imshow(value, cmap="RdBu_r", vmin=even - reach, vmax=even + reach, aspect="auto")
    names = [f"{expert}\n{kind}" for expert, kind in shares.select("expert", "type").iter_rows()]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(domains)), domains)
    for i, row in enumerate(value):
        for j, share in enumerate(row):
            color = "white" if abs(share - even) > 0.6 * reach else "black"
            axes.text(j, i, f"{share:.3f}", ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(mesh, ax=axes, shrink=0.8, label=f"share of tokens; {even:.3f} is even")
    axes.set_title("Which experts a domain's tokens went to")
