"""Rows: a name, a bar or an interval or marks on one scale, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from composer.report.draw.scale import fits, ticks
from composer.report.markup import percent, tag
from composer.report.numbers import GAP

ROW = 24  # height of a strip, in pixels
Shape = Literal["dot", "ring", "diamond", "tick"]


@dataclass(frozen=True)
class Mark:
    """One value on a strip."""

    at: float
    shape: Shape
    css: str
    title: str


@dataclass(frozen=True)
class Strip:
    """One row: its name, what stands at its end, and what is drawn between."""

    name: str
    text: str
    bar: float | None = None
    css: str = "c0"
    interval: tuple[float, float] | None = None
    marks: tuple[Mark, ...] = ()


def strips(
    rows: Sequence[Strip], *, says: str, low: float = 0.0, high: float | None = None, axis: str = "", shares: bool = False
) -> Markup:
    """Draw a row per name from ``low`` to ``high``, by default the largest value; ``shares`` are told in percent."""
    ends = [v for r in rows for v in (r.bar, *(r.interval or ()), *(mark.at for mark in r.marks)) if v is not None]
    high = max([*ends, low + 1e-9]) * 1.04 if high is None else high
    lines = ticks(low, high)

    def at(value: float) -> float:
        return min(max((value - low) / (high - low), 0.0), 1.0)

    grid = [tag("line", class_="grid", x1=percent(at(v)), x2=percent(at(v)), y1=0, y2=ROW) for v in lines]
    drawn = [
        tag("div", fits(row.name, "name"), _track(row, grid, at),
            tag("span", row.text, class_="value"), class_="strip")
        for row in rows
    ]  # fmt: skip
    wide = {"long": max((len(row.name) for row in rows), default=0), "end": max((len(row.text) for row in rows), default=0)}
    style = f"--name:{min(max(wide['long'], 4), 30) * 0.56 + 0.6:.1f}em;--end:{min(wide['end'], 24) * 0.56 + 0.5:.1f}em"
    labels = [tag("span", f"{100 * v:g}{GAP}%" if shares else f"{v:,.6g}", style=f"left:{percent(at(v))}") for v in lines]
    foot = tag("div", tag("span"), tag("div", *labels, class_="scale"), tag("span", axis, class_="axis"), class_="strip foot")
    return tag("div", *drawn, foot, class_="strips", role="img", aria_label=says, style=style)


def _track(row: Strip, grid: Sequence[Markup], at: Callable[[float], float]) -> Markup:
    y, drawn = ROW / 2, list(grid)
    if row.bar is not None:
        drawn.append(tag("rect", class_=f"bar {row.css}", x=0, y=y - 6, width=percent(at(row.bar)), height=12, rx=2))
    if row.interval is not None:
        a, b = (percent(at(v)) for v in row.interval)
        drawn.append(tag("line", class_="whisker", x1=a, x2=b, y1=y, y2=y))
        drawn += [tag("line", class_="whisker", x1=x, x2=x, y1=y - 4, y2=y + 4) for x in (a, b)]
    drawn += [_mark(mark, percent(at(mark.at)), y) for mark in row.marks]
    return tag("svg", *drawn, class_="track", height=ROW, aria_hidden="true")


def _mark(mark: Mark, x: str, y: float) -> Markup:
    said, css = tag("title", mark.title), f"{mark.shape} {mark.css}"
    if mark.shape == "tick":
        return tag("line", said, class_=css, x1=x, x2=x, y1=y - 9, y2=y + 9)
    if mark.shape == "diamond":
        return tag("svg", tag("path", said, class_=css, d=f"M0 {y - 5:g}l5 5l-5 5l-5 -5z"), x=x, overflow="visible")
    return tag("circle", said, class_=css, cx=x, cy=y, r=4.5)
