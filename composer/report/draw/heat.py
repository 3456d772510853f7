"""A matrix of cells, darker for more."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from composer.report.draw.scale import fits
from composer.report.markup import number, tag
from composer.report.numbers import shortened

SIZES = ((7, (68, 34, 13)), (12, (48, 30, 12)), (24, (34, 24, 10)), (36, (15, 15, 0)), (float("inf"), (13, 14, 0)))
"""Up to how many columns a cell has which width and height and its number which size, in pixels; 0 is no number."""

MANY, LOW = 24, (16, 10)
"""More rows than so many are this low, and their numbers this small, so that a matrix fits on a printed page."""

SWITCH = (0.525, 0.725)
"""How dark a cell is from which on its number is read better in the other of black and white: on dark pages, on light ones."""


def heat(
    names: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], *, says: str,
    outlined: frozenset[tuple[int, int]] = frozenset(), digits: int = 2, reach: tuple[float, float] | None = None,
) -> Markup:  # fmt: skip
    """Draw a matrix; cells show their number where there is room, and ``outlined`` ones have a border."""
    n = len(columns)
    width, height, font = next(size for most, size in SIZES if n <= most)
    if len(names) > MANY:
        height, font = min(height, LOW[0]), min(font, LOW[1])
    known = [v for row in values for v in row if v is not None]
    low, high = reach or (min(known, default=0.0), max(known, default=1.0))
    heads = [shortened(each, 22) for each in columns]
    top = max((len(each) for each in heads), default=0) * 5.3 + 12
    drawn = []
    for j, (head, full) in enumerate(zip(heads, columns, strict=True)):
        way = f"translate({width * (j + 0.5) + 3:g} {top - 6:g}) rotate(-55)"
        drawn.append(tag("text", head, tag("title", full), class_="head", transform=way))
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            drawn += _cell(
                value, x=width * j, y=top + height * i, w=width, h=height, font=font, digits=digits,
                how=_how(value, low, high), title=f"{names[i]}, {columns[j]}",
                outlined=(i, j) in outlined,
            )  # fmt: skip
    wide, tall = width * n + top * 0.7, top + height * len(names)
    svg = tag("svg", *drawn, role="img", aria_label=says, viewBox=f"0 0 {number(wide)} {number(tall)}", width=wide, height=tall)
    left = [fits(each, "row", style=f"height:{height}px;line-height:{height}px") for each in names]
    side = tag("div", *left, class_="heat-names", aria_hidden="true", style=f"padding-top:{number(top)}px")
    box = tag(
        "div", svg, class_="scroll", tabindex=0 if wide > 250 else None, role="group", aria_label="Matrix, scrolls sideways"
    )
    return tag("div", side, box, class_="heat")


def _how(value: float | None, low: float, high: float) -> float:
    if value is None or high <= low:
        return 0.0 if value is None else 1.0
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _cell(
    value: float | None, *, x: float, y: float, w: float, h: float, font: int, digits: int, how: float, title: str,
    outlined: bool,
) -> list[Markup]:  # fmt: skip
    if value is None:
        return [tag("rect", class_="none", x=x + 0.5, y=y + 0.5, width=w - 1, height=h - 1)]
    said = tag("title", f"{title}: {value:.{max(digits, 3)}f}")
    gap = 1 if w > 20 else 0.25
    out = [
        tag("rect", said, class_="heat-cell own" if outlined else "heat-cell", x=x + gap, y=y + gap, width=w - 2 * gap,
            height=h - 2 * gap, rx=3 if w > 20 else 0, fill_opacity=0.06 + 0.94 * how)
    ]  # fmt: skip
    if font:
        css = "low" if how < SWITCH[0] else "mid" if how < SWITCH[1] else "high"
        text = f"{value:.{digits}f}"
        out.append(tag("text", text, class_=f"heat-text {css}", x=x + w / 2, y=y + h / 2 + font * 0.35, font_size=font))
    return out
