"""Pictures of artifacts, drawn when they are asked for: they are views and never bear identity.

mixture     the weight of every domain
similarity  a heat map in which near domains stand side by side
clusters    the map of the instructions, every cluster in a colour of its own, the largest by name
schedule    how much of every phase is new and how much of what comes back
model       the weights that moved while it was trained, and the held-out losses that moved them; where none
            moved, which experts its domains went to
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.artifact import Artifact
from composer.errors import InputError
from composer.similarity_matrix import side_by_side
from flows.routing_views import FILE, draw_routing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")
NAMED = 12  # clusters whose names stand on the map


def draw(artifact: Artifact, to: Path) -> Path:
    """Draw an artifact into a file, whose ending says in which format, and return the file.

    Raises
    ------
    InputError
        For a kind that has no picture, and an ending that is no picture's.
    """
    if artifact.kind not in PICTURES:
        raise InputError("no picture of this kind", got=artifact.kind, expected=", ".join(PICTURES))
    if to.suffix not in ENDINGS:
        raise InputError("not a picture's name", where="--to", got=to.name, expected=f"a name ending in {', '.join(ENDINGS)}")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    to.parent.mkdir(parents=True, exist_ok=True)
    # A name may hold a dollar sign, which is not meant as mathematics; equal artifacts give equal files.
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": artifact.key, "font.size": 9}):
        figure = Figure(layout="constrained")
        PICTURES[artifact.kind](artifact, figure)
        stamp = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(to.suffix, {})
        figure.savefig(to, dpi=130, metadata=stamp)
    return to


def _similarity(artifact: Artifact, figure: Figure) -> None:
    matrix = artifact.json("similarity.json")
    value = np.array(matrix["value"])
    order = side_by_side(value) if matrix["kind"] == "distance" else np.arange(len(value))
    names = [matrix["domains"][i] for i in order]
    side = 2.5 + 0.42 * len(names)
    figure.set_size_inches(max(side + 1, 6.4), side)  # the title wants its room
    axes = figure.add_subplot()
    shown = value[np.ix_(order, order)]
    own = np.eye(len(names), dtype=bool)
    off = shown[~own]
    axes.set_facecolor("0.92")  # a domain and itself
    low, high = (off.min(), off.max()) if off.size else (0, 1)
    mesh = axes.imshow(np.where(own, np.nan, shown), cmap="viridis_r", vmin=low, vmax=high)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    if len(names) <= 24:
        _numbers(axes, shown)
    figure.colorbar(mesh, ax=axes, shrink=0.8, label=f"{matrix['measure']} {matrix['kind']}")
    axes.set_title(f"{matrix['kind'].capitalize()} between domains ({matrix['measure']}); near ones side by side")


def _numbers(axes: Axes, shown: np.ndarray) -> None:
    low, high = axes.images[0].get_clim()
    for i, j in np.ndindex(*shown.shape):
        if i != j:
            dark = shown[i, j] > low + 0.55 * (high - low)
            axes.text(j, i, f"{shown[i, j]:.2f}", ha="center", va="center", fontsize=7, color="white" if dark else "black")


def _clusters(artifact: Artifact, figure: Figure) -> None:
    import polars as pl
    from matplotlib import colormaps

    points = pl.read_parquet(artifact.file("clusters.parquet"))
    told = artifact.json("clusters.json")["clusters"]
    figure.set_size_inches(9, 7)
    axes = figure.add_subplot()
    x, y, label = points["x"].to_numpy(), points["y"].to_numpy(), points["cluster"].to_numpy()
    axes.scatter(x[label < 0], y[label < 0], s=5, color="0.8", linewidths=0)
    axes.scatter(x[label >= 0], y[label >= 0], s=7, c=colormaps["tab20"](label[label >= 0] % 20), linewidths=0)
    for each in told[:NAMED]:
        own = label == each["cluster"]
        text = f"{each['name']} ({each['instructions']})"
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
        axes.text(float(np.median(x[own])), float(np.median(y[own])), text, fontsize=8, ha="center", va="center", bbox=box)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"{len(points):,} instructions in {len(told)} clusters; the largest by name, near texts near each other")


def _schedule(artifact: Artifact, figure: Figure) -> None:
    from matplotlib import colormaps

    phases = artifact.json("schedule.json")["phases"]
    domains = list(dict.fromkeys(domain for phase in phases for domain in phase["mixture"]["domains"]))
    figure.set_size_inches(9, 1.5 + 0.38 * len(phases))
    axes = figure.add_subplot()
    left = np.zeros(len(phases))
    for i, domain in enumerate(domains):
        share = [dict(zip(p["mixture"]["domains"], p["mixture"]["weights"], strict=True)).get(domain, 0.0) for p in phases]
        width = np.array(share) * [phase["amount"] for phase in phases]
        axes.barh(range(len(phases)), width, left=left, color=colormaps["tab20"](i % 20), label=domain)
        left += width
    axes.set_yticks(range(len(phases)), [phase["name"] for phase in phases])
    axes.invert_yaxis()
    axes.set_xlabel(phases[0]["mixture"]["unit"].replace("_", " "))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
    axes.set_title("What every phase is trained on")


def _model(artifact: Artifact, figure: Figure) -> None:
    import polars as pl
    from matplotlib import colormaps

    if "weights.parquet" not in artifact.manifest.files:
        if FILE in artifact.manifest.files:
            return draw_routing(artifact, figure)
        hint = "train with a law: train.law={name: potential, ...}, or with experts: train.adapter={name: loramoe, ...}"
        raise InputError("no weights moved in this training", got=f"model/{artifact.key}", hint=hint)
    looks = pl.read_parquet(artifact.file("weights.parquet"))
    figure.set_size_inches(9, 6)
    above, below = figure.subplots(2, 1, sharex=True)
    for i, own in enumerate(looks.partition_by("domain", maintain_order=True)):
        color, name, at = colormaps["tab10"](i % 10), own["domain"][0], own["position"].to_numpy()
        above.plot(at, own["weight"].to_numpy(), drawstyle="steps-post", color=color, label=name)
        below.plot(at, own["loss_nats"].to_numpy(), marker="o", markersize=3, color=color)
        if own["reference_nats"][0] is not None:
            below.axhline(own["reference_nats"][0], linestyle=":", linewidth=1, color=color)
    above.set_ylabel("weight")
    above.set_ylim(bottom=0)
    below.set_ylabel("held-out loss, nats per token")
    below.set_xlabel("samples trained on")
    above.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
    dotted = "; dotted: reference losses" if looks["reference_nats"].is_not_null().any() else ""
    above.set_title(f"Domain weights and the losses that moved them{dotted}")
    return None


def _mixture(artifact: Artifact, figure: Figure) -> None:
    mixture = artifact.json("mixture.json")
    domains, weights = mixture["domains"], mixture["weights"]
    figure.set_size_inches(7, 1.2 + 0.3 * len(domains))
    axes = figure.add_subplot()
    bars = axes.barh(range(len(domains)), weights, color="tab:blue")
    axes.bar_label(bars, [f"{weight:.3f}" for weight in weights], padding=3, fontsize=8)
    axes.set_yticks(range(len(domains)), domains)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(weights))
    axes.set_xlabel(f"share of {mixture['unit'].replace('_', ' ')}")
    axes.set_title(f"Weights by the law {mixture['law']}")


PICTURES: Mapping[str, Callable[[Artifact, Any], None]] = {
    "mixture": _mixture,
    "similarity": _similarity,
    "clusters": _clusters,
    "schedule": _schedule,
    "model": _model,
}


def show(document: Mapping[str, Any]) -> None:
    """Say where a picture lies."""
    from flows.screen import out

    out.print(f"{document['artifact']} is drawn in {document['picture']}", soft_wrap=True, markup=False)
