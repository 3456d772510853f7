"""A recipe from a data set on a hub: its splits, its licence, its commit, and no more of its rows than a look needs."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest
import yaml

from tests.flows.hub import commands
from tests.loopback import Hub

pytestmark = pytest.mark.hub
CARD = b"---\nlicense: cc-by-4.0\n---\n# Law"


def table(n: int) -> bytes:
    held = io.BytesIO()
    rows = [{"instruction": f"What is {i}?", "output": f"It is {i}."} for i in range(n)]
    pl.DataFrame(rows).write_parquet(held)
    return held.getvalue()


def test_a_hub_id_becomes_sources(hub: Hub, tmp_path: Path) -> None:
    files = {"data/train-00000-of-00001.parquet": table(500), "data/test-00000-of-00001.parquet": table(20)}
    repo = hub.seed("datasets", "org/law-sft", {"README.md": CARD, **files})
    out = tmp_path / "recipe.yaml"
    good, bad = commands(
        hub, tmp_path, ["init", "org/law-sft", "--out", out, "--json"], ["init", "org/none", "--out", tmp_path / "no.yaml"]
    )
    assert good.code == 0, good.err
    assert [(each["name"], each["use"], each["looked_at"], each["rows"]) for each in good.document["sources"]] == [
        ("law", "target", 200, None), ("law-test", "validation", 20, None),
    ]  # fmt: skip
    for source, split in zip(yaml.safe_load(out.read_text())["sources"], ("train", "test"), strict=True):
        assert source["path"] == "org/law-sft"
        assert (source["split"], source["license"]) == (split, "cc-by-4.0")
        assert source["revision"] == repo.branches["main"], "what was looked at is what will be read"
    assert bad.code == 2
    assert "SOURCES: no commit for the Hub dataset" in bad.err
