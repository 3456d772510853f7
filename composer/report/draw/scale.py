"""What the pictures share: colours, round values on an axis, and names that give way where room is short."""

from __future__ import annotations

import math

from markupsafe import Markup

from composer.report.markup import tag

COLOURS = 8
TAIL = 8  # characters at the end of a long name that are always shown


def colour(i: int) -> str:
    """Return the class of the i-th colour."""
    return f"c{i % COLOURS}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values from ``low`` to ``high``.

    Examples
    --------
    >>> ticks(0, 0.42), ticks(0, 30)
    ([0.0, 0.1, 0.2, 0.3, 0.4], [0.0, 10.0, 20.0, 30.0])
    """
    span = max(high - low, 1e-12)
    power = 10 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= most)
    first = math.ceil(low / step - 1e-9)
    return [float(round(step * k, 12)) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def fits(name: str, css: str, *, style: str | None = None) -> Markup:
    """Return a name whose middle gives way where room is short: its end is kept."""
    tail = name[-TAIL:] if len(name) > 2 * TAIL else ""
    parts = [tag("span", name[: len(name) - len(tail)], class_="head"), tag("span", tail, class_="tail")]
    return tag("div", *(parts if tail else parts[:1]), class_=f"fits {css}", title=name, style=style)
