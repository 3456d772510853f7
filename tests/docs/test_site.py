"""The site builds without a warning, its links lead somewhere, and no page asks another machine for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
LOADS = {"src", "srcset", "data", "poster"}
"""Attributes that make a browser fetch something; of a link it is ``href``, of an anchor it is not."""


class Page(HTMLParser):
    """The anchors of a page, where its links lead, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id":
                self.anchors.add(value)
            elif name in LOADS or (tag == "link" and name == "href"):
                self.loaded.append(value)
            elif tag == "a" and name == "href":
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly; what Sphinx warns of fails here."""
    if find_spec("sphinx") is None or find_spec("furo") is None:
        pytest.skip("needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    told = ["-q", "-W", "--keep-going", "-c", "docs", "-d", str(folder / "trees"), ".", str(folder / "html")]
    made = subprocess.run([sys.executable, "-m", "sphinx", *told], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    return folder / "html"


def pages(site: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(site.rglob("*.html")):
        yield path, Page(path.read_text(encoding="utf-8"))


def test_every_document_is_a_page(site: Path) -> None:
    for path in (*ROOT.glob("docs/**/*.md"), *ROOT.glob("data_cards/**/*.md")):
        assert (site / path.relative_to(ROOT)).with_suffix(".html").is_file(), path


def test_links_and_anchors_are_there(site: Path) -> None:
    found = dict(pages(site))
    assert len(found) > 40
    for path, page in found.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not link:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.relative_to(site)}: {link}"
            if parts.fragment and target in found:
                assert unquote(parts.fragment) in found[target].anchors, f"{path.relative_to(site)}: {link}"


def test_nothing_is_loaded_from_another_machine(site: Path) -> None:
    for path, page in pages(site):
        far = [each for each in page.loaded if urlsplit(each).netloc]
        assert not far, (path.relative_to(site), far)
    for path in site.rglob("*.css"):
        far = re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", path.read_text(encoding="utf-8"))
        assert not far, (path.relative_to(site), far)
