"""The page in Chromium: on wide and narrow screens, light and dark, without an error, and as axe-core wants it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from composer.artifact import Store
from flows.reporting import write
from tests.composer.report.made_up_run import ATTACKS, long_names, made_up_run
from tests.flows.test_pages import CHROMIUM, FLAGS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path(CHROMIUM).is_file(), reason="needs Chromium"),
]
AXE = "axe-core@4.14.1"
SERIOUS = ("serious", "critical")
NAMES = ("law", ATTACKS[0], "code", ATTACKS[1], ATTACKS[2], ATTACKS[3])


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core: that of the file AXE_CORE, or from the registry."""
    if given := os.environ.get("AXE_CORE"):
        return Path(given).read_text(encoding="utf-8")
    if not (npm := shutil.which("npm")):
        pytest.skip("needs npm, or the file of axe-core in AXE_CORE")
    folder = tmp_path_factory.mktemp("axe")
    asked = subprocess.run([npm, "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if asked.returncode:
        pytest.skip(f"{AXE} cannot be fetched: {asked.stderr[:200]}")
    with tarfile.open(folder / asked.stdout.strip().splitlines()[-1]) as packed:
        found = packed.extractfile("package/axe.min.js")
        assert found
        return found.read().decode()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run whose texts attack it, of fifty domains of long names, and of two runs."""
    store = Store(tmp_path_factory.mktemp("pages") / "store")
    attacked, other = (made_up_run(store, NAMES, name=ATTACKS[0], seed=seed) for seed in (1, 2))
    fifty = made_up_run(store, long_names(50), name="fifty domains", phases=6)
    asked = {"attacked": (attacked.key, None), "fifty": (fifty.key, None), "two": (attacked.key, f"run/{other.key}")}
    return {name: Path(write(store, f"run/{a}", b)["page"]) for name, (a, b) in asked.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["attacked", "fifty", "two"])
def test_it_is_whole_and_for_everybody(
    name: str, width: int, scheme: str, pages: dict[str, Path], browser: Any, axe: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    page.set_default_timeout(120_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith("file:") else None)
    page.goto(pages[name].as_uri())
    assert "sft-composer report" in page.title()
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    if name == "attacked":  # the numbers behind every picture are checked as well
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    if name != "fifty":  # it has the same elements many times over
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found if each["impact"] in SERIOUS] == []
    assert wrong == []
    page.close()


def test_it_can_be_read_with_the_keyboard_and_printed(pages: dict[str, Path], browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page.set_default_timeout(120_000)
    page.goto(pages["attacked"].as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.evaluate("each => each.open")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf()[:5] == b"%PDF-"
    page.close()
