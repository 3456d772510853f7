"""The demo in one picture: what the base model knows, what is mixed, what is replayed, what was learned and kept.

It is drawn from the demo's document and from nothing else, so that it shows what a run gave. Above are the six domains, from
the probe to the mixture; below are the five tasks, from replay to what was left of them. Blue is what the pipeline found or
did, orange is what that is to be held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flows.demo.story import Run

WIDTH, HEIGHT, DPI = 1280, 860, 100
LEFT, RIGHT = (138, 560), (786, 1150)  # pixels between which the bars of the two columns lie
ABOVE, BELOW = (138, 360), (538, 798)  # and those of the two rows, from the top
TITLE, TEXT, SMALL = 18.0, 14.4, 12.6  # points; TEXT is 20 pixels, which can be read at half the size
NONE, REPLAY = "none", "InsCL (distance)"


@dataclass(frozen=True)
class Paint:
    """The colours of a picture: two that all eyes tell apart (Okabe and Ito), and greys for the paper that it lies on."""

    paper: str
    ink: str
    dim: str
    pale: str
    blue: str
    orange: str


PAINTS = {
    "story.png": Paint("#ffffff", "#1f2328", "#59636e", "#dde3e9", "#0072b2", "#d55e00"),
    "story-dark.png": Paint("#0d1117", "#f0f6fc", "#9198a1", "#3d444d", "#56b4e9", "#e69f00"),
}


def draw(document: Run, folder: Path) -> Path:
    """Draw the demo's document into a folder, for light and for dark pages, and return the picture for light ones."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    for name, paint in PAINTS.items():
        style = {"font.size": TEXT, "text.color": paint.ink, "ytick.color": paint.ink, "text.parse_math": False}
        with mpl.rc_context(style):
            figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=paint.paper)
            _known(_axes(figure, LEFT, ABOVE), document["probe"], paint)
            _mixed(_axes(figure, RIGHT, ABOVE), document["composition"], paint)
            _replayed(_axes(figure, LEFT, BELOW), document["replayed"], paint)
            _kept(_axes(figure, RIGHT, BELOW), document["forgetting"], paint)
            told = "Six domains above, five tasks one after another below; one base model, one seed. "
            _line(figure, 30, HEIGHT - 26, [(told + "Drawn by sft-composer demo.", paint.dim)], SMALL)
            figure.savefig(folder / name)
    return folder / next(iter(PAINTS))


def _axes(figure: Figure, across: tuple[float, float], down: tuple[float, float]) -> Axes:
    (left, right), (top, bottom) = across, down
    box = (left / WIDTH, 1 - bottom / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT)
    axes = figure.add_axes(box, frameon=False)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, pad=10)
    return axes


def _line(
    figure: Figure, x: float, y: float, parts: Sequence[tuple[str, str]], size: float = TEXT, weight: str = "normal"
) -> None:
    """Write parts of a line, each in its colour, one behind the other."""
    for text, color in parts:
        written = figure.text(x / WIDTH, 1 - y / HEIGHT, text, fontsize=size, color=color, weight=weight, va="baseline")
        x += written.get_window_extent().width


def _panel(axes: Axes, title: str, lines: Sequence[Sequence[tuple[str, str]]], names: Sequence[str], paint: Paint) -> None:
    """Write a panel's title and what its marks mean above it, from the left edge of its names on, and its names."""
    box, figure = axes.get_position(), cast("Figure", axes.figure)
    x, y = box.x0 * WIDTH - 108, (1 - box.y1) * HEIGHT - 90
    _line(figure, x, y, [(title, paint.ink)], TITLE, "bold")
    for i, line in enumerate(lines, start=1):
        _line(figure, x, y + 5 + 28 * i, line)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _known(axes: Axes, probe: Run, paint: Paint) -> None:
    rows, axes_most = range(len(probe["p"])), max(probe["high"])
    axes.set_xlim(0, axes_most)
    axes.barh(rows, probe["p"], height=0.6, color=paint.blue)
    axes.hlines(rows, probe["low"], probe["high"], color=paint.ink, linewidth=2)
    for i, truth in enumerate(probe["truth"]):
        axes.vlines(truth, i - 0.4, i + 0.4, color=paint.orange, linewidth=4)
        axes.text(probe["high"][i] + 0.03 * axes_most, i, _percent(probe["p"][i]), va="center_baseline")
    found = [("\u25a0", paint.blue), (f" share of {probe['n']:,} texts that it wrote, 95 % interval", paint.dim)]
    truth = [("\u2759", paint.orange), ("  what it had really been trained on", paint.dim)]
    _panel(axes, "1  What the base model knows", (found, truth), probe["domains"], paint)


def _mixed(axes: Axes, composition: Run, paint: Paint) -> None:
    domains, unit = composition["domains"], composition["unit"].replace("_", " ")
    most = max(max(each["realised_share"], each["at_hand"]) for each in domains)
    axes.set_xlim(0, most)
    for i, each in enumerate(domains):
        share, at_hand = each["realised_share"], each["at_hand"]
        axes.barh(i, share, height=0.6, color=paint.blue)
        axes.vlines(at_hand, i - 0.4, i + 0.4, color=paint.orange, linewidth=4)
        after = max(share, at_hand) if 0 <= at_hand - share < 0.2 * most else share  # between bar and tick where there is room
        axes.text(after + 0.03 * most, i, _percent(share), va="center_baseline")
    mixed = [("\u25a0", paint.blue), (f" share of {unit}, weighed by what it knows", paint.dim)]
    at_hand = [("\u2759", paint.orange), ("  share in the data at hand", paint.dim)]
    _panel(axes, "2  What is mixed", (mixed, at_hand), [each["domain"] for each in domains], paint)


def _replayed(axes: Axes, replayed: Sequence[Run], paint: Paint) -> None:
    most = max(each["new"] + sum(each["replayed"].values()) for each in replayed)
    axes.set_xlim(0, most)
    for i, each in enumerate(replayed):
        left = each["new"]
        axes.barh(i, left, height=0.6, color=paint.pale)
        axes.text(0.03 * most, i, f"{left} new", va="center_baseline")
        for rows in each["replayed"].values():
            axes.barh(i, rows, left=left, height=0.6, color=paint.blue, edgecolor=paint.paper, linewidth=2)
            left += rows
        if each["replayed"]:
            axes.text(left + 0.03 * most, i, f"+ {left - each['new']}", va="center_baseline")
    new = [("\u25a0", paint.pale), (" rows of each task, learned one after another", paint.dim)]
    back = [("\u25a0", paint.blue), (" rows of each earlier task that come back", paint.dim)]
    _panel(axes, "3  What is replayed", (new, back), [each["task"] for each in replayed], paint)


def _kept(axes: Axes, forgetting: Run, paint: Paint) -> None:
    tasks, high = list(forgetting[REPLAY]["own"]), 0.36
    axes.set_xlim(0, 1)
    lines = []
    for arm, color, at, word in ((NONE, paint.orange, -0.2, "without replay"), (REPLAY, paint.blue, 0.2, "with replay")):
        own, end = forgetting[arm]["own"], forgetting[arm]["end"]
        for i, task in enumerate(tasks):
            axes.barh(i + at, end[task], height=high, color=color)
            axes.barh(i + at, own[task], height=high, fill=False, edgecolor=color, linewidth=2)
            told = f"{_percent(own[task])[:-2]} \u2192 {_percent(end[task])}" if i + 1 < len(tasks) else _percent(end[task])
            axes.text(own[task] + 0.03, i + at, told, va="center_baseline", fontsize=SMALL)
        lines.append(
            [("\u25a0", color), (f" {word}: ", paint.dim), (f"{_percent(forgetting[arm]['kept'] or 0)} kept", paint.ink)]
        )
    legend = [*lines[0], ("    ", paint.ink), *lines[1]]
    outline = [("exact match, just learned (outline) \u2192 at the end (filled)", paint.dim)]
    _panel(axes, "4  What was learned, and kept", (legend, outline), tasks, paint)
