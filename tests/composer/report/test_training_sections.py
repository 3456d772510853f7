"""What the page says of experts, masks and reference losses follows from their artifacts, and is left out without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer.artifact import Artifact, Store
from composer.report import Record
from composer.report.section import Panel
from composer.report.sections import CHAPTERS
from composer.report.sections.references import references
from composer.report.sections.training import _looks
from tests.composer.report.made_up_run import made_up_run
from tests.composer.report.test_page import record

DOMAINS = ("law", "code", "art")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Record:
    store = Store(tmp_path_factory.mktemp("sections") / "store")
    return record(made_up_run(store, DOMAINS, name="run"), store)


def panel(slug: str, run: Record) -> Panel | None:
    return next(each for each in CHAPTERS if each.slug == slug).panel(run, [run])


def parts(slug: str, run: Record) -> tuple[Any, ...]:
    found = panel(slug, run)
    assert found
    return tuple(found.parts)


def without(run: Record, *kinds: str) -> Record:
    return Record("less", run.artifact, tuple(each for each in run.members if each.kind not in kinds))


def phases(run: Record) -> list[str]:
    return [phase["name"] for phase in run.phases]


def test_loads_are_means_over_the_maps_of_every_phase(run: Record) -> None:
    loads, words, choices = parts("experts", run)
    assert [row[0] for row in loads.table.rows[::4]] == [name for k, name in enumerate(phases(run)) for _ in range(k + 1)]
    assert {row[1:8] for row in loads.table.rows if row[2] == 0} == {(d, 0, "knowledge", 0.4, 0.4, 0.4, 2) for d in DOMAINS}
    assert words.text == (
        "Experts of knowledge read 50.0\xa0% of the tokens of knowledge domains and 50.0\xa0% of those of the others; "
        "even would be 50.0\xa0%."
    )
    assert "even is 25.0" in loads.note
    rows = [row for row in choices.table.rows if row[0] == "code"]
    assert [row[1:4] for row in rows] == [("law", 6, 0.25), ("code", 6, 0.75), ("art", 6, 0.0)]
    assert "83.3\xa0% of a domain's prompts go to its own LoRA" in choices.note  # (1 + 3/4 + 3/4) / 3


def test_masks_stand_phase_by_phase(run: Record) -> None:
    figure, words = parts("masks", run)
    assert [row[:2] for row in figure.table.rows] == [
        (phase, kind) for phase in phases(run) for kind in ("mlp.up_proj", "self_attn.q_proj")
    ]
    assert figure.table.rows[-1][2:] == (2, 200, 40, 0.2, 0.8, 0.4)
    assert "lets 100 of 1,000 entries (10.0\xa0%, scope global) move" in words.text
    assert "120 were wanted" in words.text
    assert "Earlier masks hold 200 entries; 0.0\xa0% of it lies on them." in words.text


def test_one_mask_is_a_row_per_kind_of_matrix(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = record(made_up_run(store, DOMAINS, name="one", phases=1), store)
    figure, words = parts("masks", one)
    assert figure.title == "Density of the mask in every kind of matrix"
    assert len(figure.table.rows) == 2
    assert "Earlier masks" not in words.text


def test_references_stand_beside_the_last_look(run: Record) -> None:
    [figure] = [each for each in parts("training", run) if each.kind == "figure" and each.title.startswith("Reference")]
    looks = _looks(run)
    assert looks is not None
    for row in figure.table.rows:
        last = looks.filter(pl.col("domain") == row.domain)["loss_nats"][-1]
        assert (row.before, row.reference, row.epochs, row.rows) == (5.0, 2.0, 1, 6)
        assert (row.last, row.left) == (last, last - 2.0)
    assert "short runs on each domain alone" in figure.note


def test_references_of_the_recipe_have_no_runs_and_a_law_without_any_has_no_figure(run: Record) -> None:
    given, looks = without(run, "reference"), _looks(run)
    assert looks is not None
    figure = references(given, looks, [(given, looks)])
    assert figure
    assert "given by the recipe" in figure.note
    assert {row[1] for row in figure.table.rows} == {None}
    assert references(given, looks.with_columns(reference_nats=pl.lit(None, dtype=pl.Float64)), []) is None


def test_what_has_neither_experts_nor_masks_has_no_such_section(run: Record) -> None:
    bare = without(run, "model", "evaluation", "mask")
    assert panel("experts", bare) is None
    assert panel("masks", bare) is None


def test_two_runs_share_the_scale_of_their_masks(run: Record, tmp_path: Path) -> None:
    store = Store(tmp_path)
    denser: Artifact = store.make(
        "mask", version=1, spec={}, inputs={}, build=lambda folder: _mask(folder, run.every("mask")[0].json("mask.json"))
    )
    other = Record("denser", run.artifact, (denser,))
    chapter: Any = next(each for each in CHAPTERS if each.slug == "masks")
    alone, beside = (chapter.panel(run, runs).parts[0].plot for runs in ([run], [run, other]))
    assert alone != beside


def _mask(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    from composer.fingerprint import write_json

    for own in told["kinds"].values():
        own["density"] = 0.9
    write_json(folder / "mask.json", told)
    return {}
