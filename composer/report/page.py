"""The page: one HTML file of one run, or of two side by side, that needs no network and no script.

Everything that comes from data is escaped by the template or by :mod:`composer.report.markup`, and the page forbids scripts
and every fetch to the browser besides (a content security policy), so that a text of a dataset stays a text.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from composer.artifact import Artifact
from composer.report import numbers
from composer.report.compared import LEAD, TITLE, compared
from composer.report.markup import tag
from composer.report.record import Record
from composer.report.sections import CHAPTERS
from composer.report.summary import sentences, tiles

HERE = Path(__file__).parent
LONG = 30  # rows after which a table scrolls in a box of its own
MOST = 600  # rows of a table; what has more is read from its artifact
NAMES = "AB"
CONTROLS = {code: "\ufffd" for code in range(32) if chr(code) not in "\t\n\r"}  # HTML has no way to write them


def page(runs: Sequence[Record], *, at: Path, differences: Mapping[str, Any] | None = None) -> str:
    """Return the page of one run or of two, as it is to lie at ``at``; links to artifacts lead from there.

    Parameters
    ----------
    differences
        Of two runs: ``specs`` and ``sources`` as ``mix diff`` finds them.
    """
    template = _environment(at).get_template("page.html.jinja")
    heads = [
        {
            "name": run.name, "artifact": run.artifact, "letter": NAMES[i] if len(runs) > 1 else "", "tiles": tiles(run),
            "sentences": sentences(run), "made": _day(run.artifact), "opened": _opened(run),
        }
        for i, run in enumerate(runs)
    ]  # fmt: skip
    title = " and ".join(dict.fromkeys(run.name for run in runs))
    css = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    content = template.render(title=title, heads=heads, sections=_sections(runs, differences), css=css, two=len(runs) > 1)
    return str(content).translate(CONTROLS)


def _sections(runs: Sequence[Record], differences: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    if len(runs) > 1 and differences is not None:
        out.append(
            {"slug": "compared", "title": TITLE, "lead": LEAD, "panels": [("", compared(runs[0], runs[1], differences))]}
        )
    for chapter in CHAPTERS:
        panels = [(NAMES[i] if len(runs) > 1 else "", chapter.panel(run, runs)) for i, run in enumerate(runs)]
        if any(panel for _, panel in panels):
            out.append({"slug": chapter.slug, "title": chapter.title, "lead": chapter.lead, "panels": panels})
    return out


def _environment(at: Path) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

    def link(artifact: Artifact, text: str = "", file: str = "") -> Markup:
        way = os.path.relpath(artifact.path / file, at.parent) + ("" if file else "/")
        return tag("a", text or f"{artifact.kind}/{artifact.key[:8]}", href=quote(Path(way).as_posix() + ("" if file else "/")))

    def cell(value: object) -> object:
        return link(value) if isinstance(value, Artifact) else numbers.cell(value)

    environment.globals |= {"link": link, "long": LONG, "most": MOST}
    environment.filters |= {"cell": cell}
    return environment


def _day(artifact: Artifact) -> str:
    return datetime.fromtimestamp(artifact.manifest.made["at"], UTC).strftime("%Y-%m-%d %H:%M UTC")


def _opened(run: Record) -> list[tuple[Artifact, str, str]]:
    """Return what a person opens after a run: artifact, what it is, its file."""
    wanted = (("export", "Data card", "README.md"), ("export", "Files", ""), ("model", "Model", ""), ("run", "Run", "run.json"))
    found = [(run.models[-1] if kind == "model" and run.models else run.last(kind), word, file) for kind, word, file in wanted]
    if run.artifact.kind == "run":
        found[-1] = (run.artifact, *found[-1][1:])
    return [
        (artifact, word, file) for artifact, word, file in found if artifact and (not file or file in artifact.manifest.files)
    ]
