"""Text from outside made safe for a Markdown page: cells, tables, fences, and paths reduced to their last part.

A page is read by people who were not there when it was made, so nothing in it may break the table it stands in, render as
HTML or a link, or tell where on a machine a file lay.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from composer.printable import printable

WIDTH = 120
"""Characters of a cell; longer text is cut and ends in an ellipsis."""

_MARKUP = re.compile(r"([\\`*\[\]|~])")
_FILE_URL = re.compile(r"file://")
_QUOTED = re.compile(r"""(["'])((?:/|~/|[A-Za-z]:[\\/])[^"'\n]*)\1""")
_BARE = re.compile(r"(?<![\w./:~<\\-])(?:/|~/|[A-Za-z]:[\\/])[^\s\"',;:)\]}]+")


def cell(value: object) -> str:
    """Return a value as the content of one table cell: one line, cut to 120 characters, without Markdown or HTML.

    Numbers keep four decimals, integers their thousands apart, and nothing is shown as a dash.

    Examples
    --------
    >>> cell("a|b <script> [x](y)"), cell(12345), cell(0.25), cell(None)
    ('a\\\\|b &lt;script&gt; \\\\[x\\\\](y)', '12,345', '0.2500', '–')
    """
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}"
    text = printable(" ".join(without_paths(str(value)).split()))
    text = text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
    return _MARKUP.sub(r"\\\1", html.escape(text, quote=False))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; columns whose first value is a number are aligned to the right.

    Examples
    --------
    >>> print(table(["domain", "rows"], [["law", 3]]))
    | domain | rows |
    |---|--:|
    | law | 3 |
    """
    body = list(rows)
    first = body[0] if body else head
    rules = ["--:" if isinstance(value, (int, float)) and not isinstance(value, bool) else "---" for value in first]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(rules)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(cell, row))} |" for row in body)])


def fence(text: str, *, language: str) -> str:
    """Return a fenced block whose fence is longer than any run of backticks in the text.

    Examples
    --------
    >>> print(fence("a: 1", language="yaml"))
    ```yaml
    a: 1
    ```
    """
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"


def without_paths(text: str) -> str:
    """Return the text with every absolute path of a machine reduced to its last part; web addresses stay.

    Examples
    --------
    >>> without_paths('path: "/home/jo/my data/law.parquet" of https://x.org/a/b and ../shared/law.parquet')
    'path: "law.parquet" of https://x.org/a/b and ../shared/law.parquet'
    >>> without_paths(r"C:\\\\data\\\\law.jsonl"), without_paths("file:///srv/models/base")
    ('law.jsonl', 'base')
    """
    text = _FILE_URL.sub("", text)
    text = _QUOTED.sub(lambda found: f"{found[1]}{last_part(found[2])}{found[1]}", text)
    return _BARE.sub(lambda found: last_part(found[0]), text)


def last_part(path: str) -> str:
    """Return the last part of a path, of a Hub id or of a folder that ends in a slash.

    Examples
    --------
    >>> last_part("/data/law/"), last_part("org/name")
    ('law', 'name')
    """
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "/"
