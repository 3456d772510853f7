"""One battery for every exporter: what is read back is what was composed, in its order, and the bytes repeat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer import tables
from composer.errors import InputError, SpecError, StoreError
from composer.export import EXPORTERS
from composer.export.parquet import Parquet
from composer.export.rows import licenses
from composer.types import Source
from tests.composer.export.mixes import (
    HELD,
    ORDER,
    READ,
    ROOT,
    SPILLED,
    TOOLS,
    both_ways,
    bytes_of,
    composition,
    every,
    lay,
    many,
    planned,
    samples,
)

DATA = ROOT / "../shared/data/domains"


def test_every_exporter_is_read_back_here() -> None:
    assert READ.keys() == EXPORTERS.keys()


@every
@both_ways
def test_reading_back_gives_the_same_conversations_in_the_same_order(name: str, memory_gb: float, tmp_path: Path) -> None:
    pool = samples()
    EXPORTERS[name](memory_gb=memory_gb).write(*lay(tmp_path / "in", pool, composition(pool, ORDER)), tmp_path / "out")
    assert READ[name](tmp_path / "out") == planned(pool, ORDER)
    assert {turn for found in READ[name](tmp_path / "out") for turn in found.turns[1]} >= {"tool_calls", "thinking"}
    assert not list((tmp_path / "out").glob(".*"))


@every
@settings(max_examples=8, deadline=None)
@given(order=st.lists(st.integers(0, 11), min_size=1, max_size=30), text=st.text(max_size=20), held=st.booleans())
def test_any_order_and_any_text_survive(
    name: str, order: list[int], text: str, held: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pool, folder = samples(text=text), tmp_path_factory.mktemp("export")
    tables_ = lay(folder / "in", pool, composition(pool, order), row_group=5)
    EXPORTERS[name](memory_gb=HELD if held else SPILLED).write(*tables_, folder)
    assert READ[name](folder) == planned(pool, order)


@every
@pytest.mark.usefixtures("narrow")
def test_the_bytes_follow_neither_the_memory_nor_how_the_tables_are_cut(name: str, tmp_path: Path) -> None:
    pool, rows = many(1, n=3000 if name == "parquet" else 900)
    for folder, memory_gb, row_group in (("a", HELD, 400), ("b", SPILLED, 400), ("c", SPILLED, 700), ("d", HELD, 97)):
        files = lay(tmp_path / "in" / folder, pool, rows, row_group=row_group)
        shards = {"rows_per_shard": 1100} if name == "parquet" else {}
        EXPORTERS[name](memory_gb=memory_gb, **shards).write(*files, tmp_path / folder)
    written = {folder: bytes_of(tmp_path / folder) for folder in "abcd"}
    assert len(written["a"]) == {"chat_jsonl": 1, "parquet": 6 + 2 + 3 + 2}.get(name, len(written["b"]))
    assert written["a"] == written["b"] == written["c"] == written["d"]
    assert READ[name](tmp_path / "b") == planned(pool, rows["row"].to_list())


def test_the_bytes_do_not_follow_the_number_of_threads(tmp_path: Path) -> None:
    pool, rows = many(2, n=24_000)  # more than one group of the real size
    lay(tmp_path, pool, rows, row_group=5000)
    script = (
        "import sys; from pathlib import Path; from composer.export.parquet import Parquet; here = Path(sys.argv[1]);"
        "tables = here / 'composition.parquet', here / 'samples.parquet';"
        "Parquet(memory_gb=float(sys.argv[3])).write(*tables, here / sys.argv[2])"
    )
    runs = []
    for threads, memory_gb in ((1, HELD), (2, HELD), (4, SPILLED)):
        environment = {**os.environ, "POLARS_MAX_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        arguments = [str(tmp_path), f"with-{threads}", str(memory_gb)]
        subprocess.run([sys.executable, "-c", script, *arguments], env=environment, check=True)
        runs.append(bytes_of(tmp_path / f"with-{threads}"))
    assert sorted(runs[0]) == [
        f"{folder}/train-00000-of-00001.parquet" for folder in ("data/code", "data/law", "data/news", "mix")
    ]
    assert runs[0] == runs[1] == runs[2]


@every
@both_ways
def test_a_row_without_its_sample_is_refused(name: str, memory_gb: float, tmp_path: Path) -> None:
    pool = samples()
    files = lay(tmp_path, pool[:8], composition(pool, ORDER))
    with pytest.raises(
        StoreError, match="samples of the composition are not in the pool; expected rows below 8; got 2 missing"
    ):
        EXPORTERS[name](memory_gb=memory_gb).write(*files, tmp_path / "out")


@every
@both_ways
def test_another_sample_in_its_place_is_refused(name: str, memory_gb: float, tmp_path: Path) -> None:
    pool = samples()
    files = lay(tmp_path, pool.reverse(), composition(pool, [3, 4]))
    message = f"sample {3:016x}: another sample in its place; got 2 such rows; compose again from these samples"
    with pytest.raises(StoreError, match=message):
        EXPORTERS[name](memory_gb=memory_gb).write(*files, tmp_path / "out")
    assert not (tmp_path / "out" / ".buckets").exists()


@every
def test_a_composition_out_of_order_is_refused(name: str, tmp_path: Path) -> None:
    pool = samples()
    files = lay(tmp_path, pool, composition(pool, ORDER).reverse())
    with pytest.raises(StoreError, match="rows are not in the order of their positions"):
        EXPORTERS[name]().write(*files, tmp_path / "out")


@every
@pytest.mark.parametrize(("table", "column"), [(0, "row"), (1, "extras")])
def test_a_table_without_a_column_is_refused(name: str, table: int, column: str, tmp_path: Path) -> None:
    pool = samples()
    files = lay(tmp_path, pool, composition(pool, ORDER))
    pl.read_parquet(files[table]).drop(column).write_parquet(files[table])
    with pytest.raises(StoreError, match=f"missing columns; .*got no {column}"):
        EXPORTERS[name]().write(*files, tmp_path / "out")


@every
def test_an_empty_composition_is_refused(name: str, tmp_path: Path) -> None:
    pool = samples()
    files = lay(tmp_path, pool, composition(pool, [0])[:0])
    with pytest.raises(InputError, match="nothing to export: the composition has no rows"):
        EXPORTERS[name]().write(*files, tmp_path / "out")


@every
def test_the_bound_of_memory_does_not_bear_identity(name: str) -> None:
    assert EXPORTERS[name](memory_gb=7).identity() == EXPORTERS[name]().identity()
    with pytest.raises(SpecError, match="memory_gb: input should be greater than 0"):
        EXPORTERS[name](memory_gb=0)


@every
def test_what_a_killed_process_left_is_not_taken_for_buckets(name: str, tmp_path: Path) -> None:
    pool = samples()
    files = lay(tmp_path / "in", pool, composition(pool, ORDER))
    (tmp_path / "out" / ".buckets").mkdir(parents=True)
    (tmp_path / "out" / ".buckets" / "spill").write_bytes(b"half a file")
    EXPORTERS[name](memory_gb=SPILLED).write(*files, tmp_path / "out")
    assert READ[name](tmp_path / "out") == planned(pool, ORDER)
    assert not (tmp_path / "out" / ".buckets").exists()


@every
@pytest.mark.parametrize("per_domain", [True, False])
def test_the_card_names_files_that_are_there(name: str, per_domain: bool, tmp_path: Path) -> None:
    pool = samples()
    exporter = EXPORTERS[name](**({"per_domain": per_domain} if name == "parquet" else {}))
    exporter.write(*lay(tmp_path, pool, composition(pool, ORDER)), tmp_path)
    for config in exporter.configs(["law", "code"]):
        for files in config["data_files"]:
            assert list(tmp_path.glob(files["path"]))


def test_domains_that_cannot_name_a_folder_are_refused_by_the_source() -> None:
    for odd in ("../law", "a b", "law/x", "*", ""):
        with pytest.raises(SpecError, match="domain"):
            Source(name="law", path="x", domain=odd)


@pytest.mark.parametrize("domain", ["mix", "chat", "default", "..", ".hidden"])
def test_domains_that_a_loader_would_mistake_are_refused(domain: str, tmp_path: Path) -> None:
    pool = samples(domains=(domain,))
    for refused in (
        lambda: Parquet().check(["law", domain]),
        lambda: Parquet().write(*lay(tmp_path, pool, composition(pool, [0, 1])), tmp_path / "export"),
    ):
        with pytest.raises(SpecError, match="domain: a domain that cannot be exported"):
            refused()
    assert not (tmp_path / "export").exists()
    EXPORTERS["chat_jsonl"]().check([domain])


def test_plain_rows_of_a_chat_look_as_ever_and_others_carry_their_tools(tmp_path: Path) -> None:
    pool = samples(4, text="hi")
    EXPORTERS["chat_jsonl"]().write(*lay(tmp_path / "in", pool, composition(pool, [2, 3])), tmp_path)
    plain, called = (tmp_path / "chat" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    turns = '[{"role":"user","content":"2 hi"},{"role":"assistant","content":"answer 2"}]'
    assert plain == f'{{"messages":{turns},"domain":"law","source":"law-rows"}}'
    assert json.loads(called)["tools"] == TOOLS
    assert json.loads(called)["messages"][1]["tool_calls"] == [{"name": "add", "arguments": {"a": 1}}]


def test_licences_are_counted_as_often_as_their_rows_come(tmp_path: Path) -> None:
    pool = samples()
    assert licenses(*lay(tmp_path, pool, composition(pool, ORDER))) == {"MIT": 5, "CC-BY-4.0": 4}
    assert licenses(*lay(tmp_path, pool, composition(pool, [0, 0, 2, 1]))) == {"CC-BY-4.0": 3, "MIT": 1}
    assert licenses(*lay(tmp_path, pool, composition(pool, [1]))) == {"MIT": 1}


def test_real_rows_survive(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip("shared/data is not here")
    frame = pl.read_parquet(DATA / "science.parquet").head(200)
    text = [[{"role": "user", "content": i}, {"role": "assistant", "content": o}] for i, o in _texts(frame)]
    pool = samples(200).with_columns(pl.Series("messages", text, dtype=pl.List(tables.MESSAGE)), extras=pl.lit(None, pl.String))
    order = list(range(199, -1, -1))
    for name, exporter in EXPORTERS.items():
        exporter().write(*lay(tmp_path, pool, composition(pool, order)), tmp_path)
        assert [found.turns for found in READ[name](tmp_path)] == text[::-1]


def _texts(frame: pl.DataFrame) -> Iterator[tuple[Any, Any]]:
    return frame.select("instruction", "output").iter_rows()
