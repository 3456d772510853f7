"""Prefect's pages in Chromium: the run by the schedule, what it left, and the form of the parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flows.prefect_world import World

pytestmark = pytest.mark.browser
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
NOT_OURS = ("favicon.ico", "/ico/undefined.svg")  # pictures that Prefect's own pages ask for in vain


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A page of a browser; at the end nothing has gone wrong in it."""
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        opened = browser.new_page(viewport={"width": 1300, "height": 1000})
        opened.set_default_timeout(30_000)
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on(
            "console",
            lambda said: wrong.append(f"{said.text} {said.location['url']}") if said.type == "error" else None,
        )
        opened.on("requestfailed", lambda asked: wrong.append(f"{asked.failure} {asked.url}"))
        yield opened
        browser.close()
    ours = [each for each in wrong if not each.split(" ")[-1].endswith(NOT_OURS) and "ERR_ABORTED" not in each]
    assert ours == []


def seen(page: Any, address: str, *words: str) -> None:
    """Open a page and wait until it shows every one of the words."""
    page.goto(address)
    for word in words:
        page.get_by_text(word, exact=False).first.wait_for()


def test_the_page_of_the_run_shows_its_stages(scheduled: World, page: Any) -> None:
    address = f"{scheduled.address}/runs/flow-run/{scheduled.by_schedule}"
    seen(page, address, "Completed", "15 of 15 stages done")
    page.screenshot(path=str(scheduled.folder / "run.png"))
    page.get_by_role("tab", name="Artifacts").or_(page.get_by_text("Artifacts", exact=True).last).first.click()
    page.get_by_text("small-summary").first.wait_for()


def test_its_artifacts_show_what_was_done(scheduled: World, page: Any) -> None:
    seen(
        page,
        f"{scheduled.address}/artifacts",
        "small-summary",
        "small-shares",
        "small-mixture",
        "small-similarity",
        "small-card",
    )
    asked = {"artifacts": {"flow_run_id": {"any_": [scheduled.by_schedule]}}}
    left = {
        each["key"]: f"{scheduled.address}/artifacts/artifact/{each['id']}"
        for each in scheduled.ask("/artifacts/filter", asked)
    }
    seen(page, left["small-summary"], "15 of 15 stages done", "ingest law", "made")
    page.screenshot(path=str(scheduled.folder / "summary.png"))
    seen(page, left["small-shares"], "planned", "realised", "loss tokens", "medicine")
    for key in ("small-mixture", "small-similarity"):
        page.goto(left[key])
        picture = page.locator("img[src^='data:image/png']").first
        picture.wait_for()
        assert picture.evaluate("image => image.naturalWidth") > 300
    seen(page, left["small-card"], "Data card")
    assert page.get_by_role("link", name="Data card").get_attribute("href").startswith("file:///")


def test_the_parameters_are_a_form(scheduled: World, page: Any) -> None:
    deployment = scheduled.ask("/deployments/name/compose/small", method="GET")["id"]
    words = ("Recipe text (Optional)", "key=value on top of the recipe", "Folder of the artifacts", "Stop after this stage")
    seen(page, f"{scheduled.address}/deployments/deployment/{deployment}/run", *words)
    filled = [each.input_value() for each in page.locator("textarea, input").all()]
    assert any(re.search(r"recipe\.yaml$", value) for value in filled)
    page.screenshot(path=str(scheduled.folder / "form.png"))
