"""What is drawn in a field as wide as the page: stacked areas, small panels of lines, histograms and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from composer.report.draw.scale import fits, ticks
from composer.report.markup import number, percent, tag


def plane(
    inner: Sequence[Markup], *, says: str, height: int, left: Sequence[tuple[float, str]] = (),
    below: Sequence[tuple[float, str]] = (), over: Sequence[Markup] = (), axis: str = "", css: str = "plane",
) -> Markup:  # fmt: skip
    """Draw what lies in a field of 1,000 by 1,000 that is stretched to the width, with words at its left and below it."""
    field = tag(
        "svg", *inner, viewBox="0 0 1000 1000", preserveAspectRatio="none", width="100%", height="100%", aria_hidden="true"
    )
    lines = [tag("i", style=f"bottom:{percent(at)}") for at, _ in left]
    words = [tag("span", word, style=f"bottom:{percent(at)}") for at, word in left]
    foot = [tag("span", word, style=f"left:{percent(at)};max-width:{percent(1 / len(below))}") for at, word in below]
    wide = max((len(word) for _, word in left), default=0) * 0.6 + (0.5 if left else 0)
    return tag(
        "div",
        tag("div", *words, class_="plane-left"),
        tag("div", *lines, field, *over, class_="plane-field", style=f"height:{height}px"),
        tag("div", *foot, class_="plane-below"),
        tag("div", axis, class_="plane-axis"),
        class_=css, role="img", aria_label=says, style=f"--left:{wide:.1f}em",
    )  # fmt: skip


@dataclass(frozen=True)
class Band:
    """One name's share from edge to edge, and whether it is hatched in each stretch."""

    css: str
    shares: Sequence[float]
    hatched: Sequence[bool] = ()


def areas(
    bands: Sequence[Band], edges: Sequence[float], *, says: str, key: str, below: Sequence[tuple[float, str]], axis: str
) -> Markup:
    """Stack shares that hold from one edge to the next; ``edges`` run from 0 to 1 and are one more than the shares."""
    floor = [0.0] * (len(edges) - 1)
    drawn = [
        tag("defs", tag("pattern", tag("line", x1=0, y1=0, x2=0, y2=6, class_="hatching"), id=f"hatch-{key}", width=6, height=6,
                        patternUnits="userSpaceOnUse", patternTransform="scale(1.6 5) rotate(45)"))
    ]  # fmt: skip
    for band in bands:
        ceiling = [a + b for a, b in zip(floor, band.shares, strict=True)]
        drawn.append(tag("path", class_=f"area {band.css}", d=_outline(edges, floor, ceiling)))
        for k, (a, b) in enumerate(pairwise(edges)):
            if band.hatched and band.hatched[k] and band.shares[k] > 0:
                size = {"x": 1000 * a, "y": 1000 * (1 - ceiling[k]), "width": 1000 * (b - a), "height": 1000 * band.shares[k]}
                drawn.append(tag("rect", fill=f"url(#hatch-{key})", **size))
        floor = ceiling
    left = [(v, f"{100 * v:.0f} %") for v in (0, 0.25, 0.5, 0.75, 1)]
    return plane(drawn, says=says, height=240, left=left, below=below, axis=axis)


def _outline(edges: Sequence[float], floor: Sequence[float], ceiling: Sequence[float]) -> str:
    top = [
        f"{number(1000 * x)} {number(1000 * (1 - y))}"
        for (a, b), y in zip(pairwise(edges), ceiling, strict=True)
        for x in (a, b)
    ]
    low = [
        f"{number(1000 * x)} {number(1000 * (1 - y))}" for (a, b), y in zip(pairwise(edges), floor, strict=True) for x in (a, b)
    ]
    return f"M{'L'.join([*top, *reversed(low)])}Z"


@dataclass(frozen=True)
class Mini:
    """One small panel: its name, what is said beside it, its line as (across, up), and a level to compare it with."""

    name: str
    text: str
    line: Sequence[tuple[float, float]]
    css: str = "c0"
    level: float | None = None


def minis(panels: Sequence[Mini], *, says: str, reach: tuple[float, float], stepped: bool = False) -> Markup:
    """Draw a small panel per name; across is 0 to 1, up is ``reach`` for all."""
    low, high = reach

    def up(value: float) -> float:
        return 1000 * (1 - (value - low) / max(high - low, 1e-12))

    drawn = []
    for each in panels:
        way = [f"{number(1000 * x)} {number(up(y))}" for x, y in each.line]
        if stepped:
            way = [way[0], *(f"{b.split()[0]} {a.split()[1]}L{b}" for a, b in pairwise(way))] if way else []
        inner = [tag("path", class_=f"line {each.css}", d=f"M{'L'.join(way)}")] if way else []
        if each.level is not None:
            inner.insert(0, tag("path", class_="level", d=f"M0 {number(up(each.level))}H1000"))
        drawn.append(tag(
            "div",
            tag("div", fits(each.name, "mini-name"), tag("span", each.text), class_="mini-head"),
            tag("svg", *inner, viewBox="0 0 1000 1000", preserveAspectRatio="none", height=68, aria_hidden="true"),
            class_="mini",
        ))  # fmt: skip
    return tag("div", *drawn, class_="minis", role="img", aria_label=says)


def columns(counts: Sequence[int], edges: Sequence[float], *, says: str, axis: str) -> Markup:
    """Draw a histogram over equal bins."""
    most, n = max([*counts, 1]), len(counts)
    drawn = [
        tag("rect", tag("title", f"{edges[i]:.2f} to {edges[i + 1]:.2f}: {c:,}"), class_="bar c0", x=1000 * i / n + 1.5,
            width=1000 / n - 3, y=1000 * (1 - c / most), height=1000 * c / most)
        for i, c in enumerate(counts)
    ]  # fmt: skip
    span = edges[-1] - edges[0] or 1.0
    below = [((v - edges[0]) / span, f"{v:g}") for v in ticks(edges[0], edges[-1])]
    left = [(v / most, f"{v:,.0f}") for v in ticks(0, most, 4)]
    return plane(drawn, says=says, height=180, left=left, below=below, axis=axis)


def _apart(labels: Sequence[tuple[float, float, str]], gap: float = 0.05) -> list[tuple[float, float, str]]:
    """Return labels of which none lies on another: those in the way move up."""
    out: list[tuple[float, float, str]] = []
    for x, y, word in sorted(labels, key=lambda each: each[1]):
        near = [b for a, b, other in out if abs(a - x) < 0.006 * (len(word) + len(other)) and b > y - gap]
        out.append((x, max([y, *(b + gap for b in near)]), word))
    return out


def points(
    groups: Mapping[str, Sequence[tuple[float, float]]], labels: Sequence[tuple[float, float, str]], *, says: str
) -> Markup:
    """Draw a map: points from 0 to 1 by the class of their group, and names where they lie."""
    drawn = [
        tag("path", class_=f"points {css}", d="".join(f"M{1000 * x:.0f} {1000 * (1 - y):.0f}h0" for x, y in own))
        for css, own in groups.items() if own
    ]  # fmt: skip
    over = [
        tag(
            "span",
            word,
            class_="map-name",
            style=f"left:{percent(min(max(x, 0.1), 0.9))};bottom:{percent(min(max(y, 0.04), 0.96))}",
        )
        for x, y, word in _apart(labels)
    ]
    return plane(drawn, says=says, height=460, over=over, css="plane map")
