"""However the rows arrive, the file is the same."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer import tables
from composer.errors import StoreError
from composer.fingerprint import sha256
from composer.ingest import sink as module
from composer.ingest.sink import sink, slices

ROWS = pl.DataFrame([(f"i{i}", "é" * (i % 5)) for i in range(25)], schema=pl.Schema(tables.INSTRUCTION), orient="row")


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 25), max_size=5).map(sorted))
def test_the_bytes_do_not_depend_on_the_frames(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("sink")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GROUP", 10)
        sink([ROWS], folder / "one.parquet", tables.INSTRUCTION)
        frames = [ROWS[a:b] for a, b in zip([0, *cuts], [*cuts, 25], strict=True)]
        sink(frames, folder / "two.parquet", tables.INSTRUCTION)
        assert sha256(folder / "one.parquet") == sha256(folder / "two.parquet")
        groups = list(slices(folder / "two.parquet"))
    assert [len(group) for group in groups] == [10, 10, 5]
    assert pl.concat(groups).drop("row").equals(ROWS)
    assert pl.concat(groups)["row"].to_list() == list(range(25))


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    sink([], tmp_path / "none.parquet", tables.SAMPLE)
    assert tables.read(tmp_path / "none.parquet", tables.SAMPLE).is_empty()
    assert list(slices(tmp_path / "none.parquet")) == []


def test_a_frame_of_another_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"a\.parquet: missing columns"):
        sink([ROWS.drop("text")], tmp_path / "a.parquet", tables.INSTRUCTION)
