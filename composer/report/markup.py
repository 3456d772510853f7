"""Elements of HTML and SVG as values: whatever is put into one is escaped, unless it is an element itself."""

from __future__ import annotations

from markupsafe import Markup, escape

Value = str | int | float | None


def tag(name: str, *children: object, **attributes: Value) -> Markup:
    """Return one element; ``class_`` stands for class, ``stroke_width`` for stroke-width, and None leaves an attribute out.

    Examples
    --------
    >>> tag("b", "<law>", class_="c1", x=0.123456)
    Markup('<b class="c1" x="0.123">&lt;law&gt;</b>')
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(v))}"' for key, v in attributes.items() if v is not None
    )
    return Markup(f"<{name}{said}>{''.join(escape(child) for child in children)}</{name}>")


def _text(value: str | int | float) -> str:
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Return a coordinate with at most three decimals.

    Examples
    --------
    >>> number(12.5), number(3.0), number(-0.0)
    ('12.5', '3', '0')
    """
    return (
        f"{value:.3f}".rstrip("0").rstrip(".").replace("-0", "0")
        if abs(value) < 5e-4
        else f"{value:.3f}".rstrip("0").rstrip(".")
    )


def percent(share: float) -> str:
    """Return a share as a length that follows the width of the page.

    Examples
    --------
    >>> percent(0.25)
    '25%'
    """
    return f"{number(100 * share)}%"
