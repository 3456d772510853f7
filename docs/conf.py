"""How Sphinx makes the site: the pages are those of the repository, where they lie, so that a link works in both.

``make site`` builds it into ``site/``. Nothing is fetched, neither when it is built nor when it is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

project = "sft-composer"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md", "docs/**.png", "data_cards/**.md", "benchmarks/README.md", "CHANGELOG.md", "CONTRIBUTING.md",
]  # fmt: skip
exclude_patterns = [
    ".*", "site", "store", "demo", "runs", "dist", "composer", "probes", "flows", "tests", "benchmarks/results",
]  # fmt: skip

myst_heading_anchors = 4
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "sft-composer"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False

DOOR = (
    '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/index.html"><title>{title}</title>\n'
)


def _open_door(app: Any, error: Exception | None) -> None:
    """Let the site's folder itself lead to its first page."""
    if error is None and app.builder.name == "html":
        (Path(app.outdir) / "index.html").write_text(DOOR.format(title=html_title), encoding="utf-8")


def setup(app: Any) -> None:
    """Tell Sphinx what is ours."""
    app.connect("build-finished", _open_door)
