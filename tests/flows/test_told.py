"""What a run tells on Prefect's pages, made of a store without Prefect."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from composer.artifact import Artifact, Store
from composer.errors import SourceError
from flows.cli import invoke
from flows.mix_diff import diff
from flows.pipeline import make_plan
from flows.recipe import read_recipe
from flows.shell import carry_out
from flows.told import NOTHING, Run, escape, leaves, slug

Done = tuple[Path, dict[str, Artifact]]


def carried_out(folder: Path, *overrides: str, until: str = "export") -> Run:
    """Carry a recipe out, plainly, and return what was heard of it."""
    store = Store(folder / "store")
    run = Run(make_plan(read_recipe(folder / "recipe.yaml", overrides), store).until(until), store)
    carry_out(run.plan, store, plain=True, told=run.heard)
    return run


@pytest.fixture
def grown(world: Path, done: Done) -> tuple[Run, Run, Run]:
    """The same recipe three times: made, found, and made again from a grown source; it measures nothing, so it is quick."""
    off = (
        "probe=null",
        "law=proportional",
        "train=null",
        "tags=null",
        f"base_model={{path: {done[1]['base'].path / 'model'}}}",
    )
    first, found = carried_out(world, *off), carried_out(world, *off)
    with (world / "code.jsonl").open("a") as file:
        file.write(json.dumps({"instruction": "Name a <b>new</b> loop", "output": "while"}) + "\n")
    return first, found, carried_out(world, *off)


def test_the_summary_says_what_was_made_and_what_was_there(grown: tuple[Run, Run, Run]) -> None:
    first, found, again = ({leaf.key: leaf for leaf in leaves(run)} for run in grown)
    n = len(grown[0].plan.steps)
    assert f"**{n} of {n} stages done**" in first["small-summary"].content
    assert "## Since" not in first["small-summary"].content
    assert NOTHING in found["small-summary"].content
    assert "| made |" not in found["small-summary"].content
    told = again["small-summary"].content
    assert f"**{len(grown[2].made)} of {n} stages done**" in told
    assert "- source code: 40 rows, now 41 rows" in told
    assert f"mix diff composition/{grown[0].last['composition'].key} composition/{grown[2].last['composition'].key}" in told
    assert "| ingest law | source/" in told


def test_what_follows_from_a_grown_source_is_made_again_and_nothing_else(grown: tuple[Run, Run, Run]) -> None:
    steps = {step.label for step, _, was_there in grown[2].done if not was_there}
    assert "ingest code" in steps
    assert not steps & {"ingest law", "ingest medicine", "ingest law-text"}
    assert {"pool", "embed", "mix", "compose", "export"} <= steps


def test_tables_pictures_and_links(grown: tuple[Run, Run, Run]) -> None:
    run = grown[0]
    left = {leaf.key: leaf for leaf in leaves(run)}
    assert {leaf.kind for leaf in left.values()} == {"markdown", "table", "image", "link"}
    rows = left["small-shares"].content
    report = run.last["composition"].json("report.json")["domains"]
    assert [row["realised"] for row in rows] == pytest.approx([each["realised_share"] for each in report], abs=1e-6)
    assert [row["rows"].split(" ")[0] for row in rows] == [f"{each['rows']:,}" for each in report]
    for kind in ("mixture", "similarity"):
        head, _, content = left[f"small-{kind}"].content.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(content).startswith(b"\x89PNG")
    address, text = left["small-card"].content
    assert text == "Data card"
    assert Path(address.removeprefix("file://")).read_text().startswith("---")


def test_a_failed_run_says_where_and_what_is_complete(grown: tuple[Run, Run, Run]) -> None:
    run = Run(grown[0].plan, grown[0].store, grown[0].done[:2])
    [told, *_] = leaves(run, SourceError("no <script> | here", where="a`b"))
    assert f"**Failed** at {escape(run.plan.steps[2].label)}: a&#96;b&#58; no &#60;script&#62; &#124; here" in told.content
    assert f"2 of {len(run.plan.steps)} stages are complete" in told.content


def test_names_are_escaped_and_keys_are_as_prefect_wants_them() -> None:
    assert escape("a\n| [x](http://y)") == "a &#124; &#91;x&#93;&#40;http&#58;//y&#41;"
    for name in ("Big.Recipe_1", "ä", "--x--"):
        assert set(slug(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_mix_diff_names_the_source_and_the_fields(
    grown: tuple[Run, Run, Run], world: Path, done: Done, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, last = grown
    store = first.store
    names = [f"composition/{run.last['composition'].key}" for run in (first, last)]
    document = diff(*names, store=store)
    assert [(s["source"], s["rows"]) for s in document["sources"] if s["changed"]] == [("code", {"a": 40, "b": 41})]
    assert {each["step"] for each in document["specs"]} == {"source code"}
    for each, old, new in zip(document["domains"], *(run.last["composition"].json("report.json")["domains"] for run in
                              (first, last)), strict=True):  # fmt: skip
        assert each["realised_share"] == {"a": old["realised_share"], "b": new["realised_share"]}
    back = diff(*reversed(names), store=store)
    assert [each["weight"]["b"] for each in back["domains"]] == [each["weight"]["a"] for each in document["domains"]]
    same = diff(names[0], names[0], store=store)
    assert (same["specs"], [s for s in same["sources"] if s["changed"]]) == ([], [])
    code, shown = invoke(["mix", "diff", *names, "--store", str(store.root)]), capsys.readouterr().out
    assert code == 0
    for words in ("Sources", "code", "41", "Weights and shares of loss tokens", "source code", "content"):
        assert words in shown
    base = f"base_model={{path: {done[1]['base'].path / 'model'}}}"
    uniform = carried_out(world, "probe=null", "law=uniform", "train=null", "tags=null", base, until="mix")
    mixtures = [f"mixture/{run.last['mixture'].key}" for run in (last, uniform)]
    changed = diff(*mixtures, store=store)
    assert changed["laws"] == {"a": "proportional", "b": "uniform"}
    assert ("mixture", "law.name") in {(each["step"], each["field"]) for each in changed["specs"]}
    assert changed["domains"][0]["weight"]["b"] == pytest.approx(1 / 3)


def test_mix_diff_refuses_what_is_not_mixed(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(done[0] / "store")
    for arguments, told in (
        (("base", "mixture"), "base: not what is mixed; expected kind mixture, composition or export; got base"),
        (("mixture", "composition"), "mixture, composition: the two are of other kinds; expected mixture; got composition"),
        (("mixture", "nothing"), "no such artifact; got nothing"),
    ):
        assert invoke(["mix", "diff", *arguments, "--store", store]) == 2
        assert told in capsys.readouterr().err


def test_a_bar_that_is_open_for_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import prefect_artifacts

    told: list[Any] = []
    monkeypatch.setattr(prefect_artifacts, "LONG_SECONDS", -1.0)
    monkeypatch.setattr(prefect_artifacts.Page, "_tell", lambda page: told.append((page.key, page.done, page.total)))
    watcher = prefect_artifacts.Watcher(prefect_artifacts.Silence(), prefix="small", log=None)
    with watcher.bar("sampling the model", total=4, unit="texts") as bar:
        bar.advance(3)
        bar.advance()
    assert told == [("small-progress-sampling-the-model", 3, 4), ("small-progress-sampling-the-model", 4, 4)]
