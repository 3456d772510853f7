"""Parquet: the mix and each domain in shards, groups of rows, and content that goes through buckets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.export import content
from composer.export.parquet import Parquet
from composer.export.rows import COLUMNS, SCHEMA, cuts
from composer.spec import rng
from tests.composer.export.mixes import ORDER, both_ways, bytes_of, composition, lay, many, planned, read_parquet, samples


@both_ways
def test_parquet_holds_the_mix_and_each_domain_in_shards(memory_gb: float, tmp_path: Path) -> None:
    pool = samples()
    exporter = Parquet(rows_per_shard=2, memory_gb=memory_gb)
    stats = exporter.write(*lay(tmp_path / "in", pool, composition(pool, ORDER)), tmp_path)
    assert stats == {"rows": {"mix": 9, "code": 5, "law": 4}, "shards": {"mix": 5, "code": 3, "law": 2}}
    assert [p.name for p in sorted((tmp_path / "data" / "law").iterdir())] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    mix = pl.read_parquet(tmp_path / "mix" / "*.parquet")
    assert mix.schema == SCHEMA
    assert tuple(mix.columns) == COLUMNS
    assert mix["position"].to_list() == list(range(9))
    assert mix["repeat"].to_list() == [0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert mix["channel"].equals(mix["domain"].alias("channel"))
    for name in ("sample_id", "messages", "extras", "source", "source_revision", "domain", "license", "n_tokens"):
        assert mix[name].to_list() == pool[ORDER][name].to_list()
    law = pl.read_parquet(tmp_path / "data" / "law" / "*.parquet")
    assert law.equals(mix.filter(pl.col("domain") == "law"))


def test_the_mix_alone_is_half_of_it(tmp_path: Path) -> None:
    pool = samples()
    stats = Parquet(per_domain=False).write(*lay(tmp_path / "in", pool, composition(pool, ORDER)), tmp_path / "out")
    assert stats == {"rows": {"mix": 9}, "shards": {"mix": 1}}
    assert list(bytes_of(tmp_path / "out")) == ["mix/train-00000-of-00001.parquet"]


def test_a_group_is_a_row_group(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pool = samples(50)
    rows = composition(pool, rng(0, "rows").integers(0, 50, 45_000).tolist())
    Parquet(per_domain=False, rows_per_shard=30_000).write(*lay(tmp_path / "in", pool, rows), tmp_path)
    footers = [pq.read_metadata(path) for path in sorted((tmp_path / "mix").iterdir())]
    sizes = [[footer.row_group(i).num_rows for i in range(footer.num_row_groups)] for footer in footers]
    assert sizes == [[20_000, 10_000], [15_000]]


def test_long_rows_make_small_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    pool = samples(50, text="long" * 500)
    files = lay(tmp_path, pool, composition(pool, [i % 50 for i in range(200)]))
    monkeypatch.setattr("composer.export.rows.GROUP_BYTES", 100_000)
    Parquet(per_domain=False).write(*files, tmp_path)
    footer = pq.read_metadata(next((tmp_path / "mix").iterdir()))
    sizes = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    assert len(set(sizes[:-1])) == 1
    assert 40 <= sizes[0] <= 50
    assert read_parquet(tmp_path) == planned(pool, [i % 50 for i in range(200)])


@pytest.mark.usefixtures("narrow")
def test_content_through_buckets_is_the_content_gathered(tmp_path: Path) -> None:
    pool, rows = many(3)
    _, path = lay(tmp_path, pool, rows, row_group=100)
    places, at = rows["row"], cuts(len(rows), size=1900, group=250)
    held = content.Content(path, memory=10**9, aside=tmp_path / "aside")
    spilled = content.Content(path, memory=10**5, aside=tmp_path / "aside")
    assert (held.in_memory, spilled.in_memory) == (True, False)
    gathered, groups = list(held.groups(places, at)), spilled.groups(places, at)
    found = [next(groups)]
    assert (tmp_path / "aside" / "spill").stat().st_size > 10**5
    found += groups
    assert [len(group) for group in found] == np.diff(at).tolist()
    assert all(a.equals(b) for a, b in zip(found, gathered, strict=True))
    assert pl.concat(found)["messages"].to_list() == pool[rows["row"]]["messages"].to_list()
    assert not (tmp_path / "aside").exists()


@pytest.mark.parametrize("row_group", [5, 20, 60])
def test_chunks_are_row_groups_together_or_cut(row_group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = samples(60, text="some text")
    _, path = lay(tmp_path, pool, composition(pool, [0]), row_group=row_group)
    held = content.Content(path, memory=0, aside=tmp_path / "aside")
    sizes = [content._bytes(group) for group in held._row_groups]
    for most in (min(sizes) // 4, min(sizes), max(sizes) * 2, 10**9):
        monkeypatch.setattr(content, "CHUNK", most)
        edges = content._edges(held._row_groups)
        assert edges[0] == 0
        assert edges[-1] == 60
        assert edges == sorted(set(edges))
        assert (len(edges) == 2) == (sum(sizes) <= most)
        assert (len(edges) - 1 > len(sizes)) == (most < max(sizes))


@given(n=st.integers(0, 40), size=st.integers(1, 15), group=st.integers(1, 6))
def test_cuts_are_the_ends_of_groups_that_never_cross_a_shard(n: int, size: int, group: int) -> None:
    at = cuts(n, size=size, group=group)
    steps = np.diff(at)
    assert at[0] == 0
    assert at[-1] == n
    assert (steps > 0).all()
    assert (steps <= group).all()
    assert set(range(0, n, size)) <= set(at)
    assert len(at) - 1 == sum(-(-min(size, n - first) // group) for first in range(0, n, size))
