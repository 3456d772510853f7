"""The command ``report`` and the page that a run leaves: of real artifacts of the tiny world, without a browser."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from composer.artifact import Artifact, Store
from composer.errors import InputError, StoreError
from flows.cli import invoke
from flows.reporting import write
from flows.told import Leaf, Run, draw_page, leaves
from tests.composer.report.made_up_run import made_up_run
from tests.composer.report.test_page import Tree

Done = tuple[Path, dict[str, Artifact]]


def test_a_run_has_a_page_in_its_store(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    folder, artifacts = done
    store = str(folder / "store")
    assert invoke(["report", "--store", store, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    run = artifacts["report"]
    assert document["of"] == [f"run/{run.key}"]
    path = Path(document["page"])
    assert path == (folder / "store" / "reports" / f"{run.key}.html").resolve()
    assert document["bytes"] == path.stat().st_size
    root = Tree(path.read_text(encoding="utf-8")).root
    shown = {each.attributes["id"] for each in root.every("section")}
    assert {
        "knowledge",
        "weights",
        "schedule",
        "similarity",
        "scores",
        "training",
        "retention",
        "dropped",
        "licences",
        "cost",
    } <= shown
    for each in artifacts["compose"].json("report.json")["domains"]:
        assert each["domain"] in root.text
        assert f"{each['loss_tokens']:,}" in root.text
    assert not Store(folder / "store").verify(run)


def test_any_artifact_has_a_page_of_what_it_was_made_from(
    done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "new" / "mixture.html"
    assert invoke(["report", "mixture", "--to", str(to), "--store", str(done[0] / "store")]) == 0
    assert "mixture.html" in capsys.readouterr().out
    root = Tree(to.read_text(encoding="utf-8")).root
    shown = [each.attributes["id"] for each in root.every("section")]
    assert "weights" in shown
    assert "retention" not in shown


def test_two_runs_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    a, b = (made_up_run(store, ("law", "code", "art"), name=f"run {seed}", seed=seed) for seed in (1, 2))
    assert invoke(["report", f"run/{a.key}", f"run/{b.key}", "--store", str(store.root), "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["page"])
    assert path.name == f"{a.key}-{b.key}.html"
    text = Tree(path.read_text(encoding="utf-8")).root.text
    for words in ("Two runs side by side", "What differs", "run 1 and run 2", "Asked for otherwise", "seed", "B less A"):
        assert words in text


def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["report", "--store", str(tmp_path)]) == InputError.exit_code
    assert "no such artifact; got run" in capsys.readouterr().err


def test_a_run_leads_to_its_page_once_it_is_drawn(done: Done) -> None:
    folder, artifacts = done

    class Ended(Run):
        @property
        def last(self) -> dict[str, Artifact]:
            return {"run": artifacts["report"], "export": artifacts["export"]}

    from flows.pipeline import make_plan
    from flows.recipe import read_recipe

    store = Store(folder / "store")
    run = Ended(make_plan(read_recipe(folder / "recipe.yaml"), store), store)
    page = store.root / "reports" / f"{artifacts['report'].key}.html"
    page.unlink(missing_ok=True)
    assert _address(run).endswith("/run.json")
    draw_page(run)
    assert _address(run) == page.resolve().as_uri()


def _address(run: Run) -> str:
    [leaf] = [each for each in leaves(run) if each.key.endswith("-report")]
    assert isinstance(leaf, Leaf)
    return str(leaf.content[0])


def test_where_the_disk_is_full_an_older_page_stays(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is left beside it."""
    store, page = Store(done[0] / "store"), tmp_path / "page.html"
    page.write_text("older")

    def full(self: Path, text: str, **_: Any) -> int:
        self.write_bytes(text.encode()[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match=r"--to: the page cannot be written: No space left on device; got .*page\.html"):
        write(store, to=page)
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
    assert page.read_text() == "older"
