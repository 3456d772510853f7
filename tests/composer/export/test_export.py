"""One battery for every exporter: what is read back is what was composed, in its order, and the bytes repeat."""

from __future__ import annotations

import json
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
from composer.export.base import COLUMNS, SLICE, Rows
from composer.export.parquet import Parquet
from composer.types import Source

NASTY = 'tab\t, "quotes", \\back, new\nline, <b>, é 漢 🙂, \u2028 and \x00'
DATA = Path(__file__).parents[3] / "../shared/data/domains"


def samples(n: int = 12, *, domains: tuple[str, ...] = ("law", "code"), text: str = NASTY) -> pl.DataFrame:
    """Return n samples dealt to the domains in turn."""
    return pl.DataFrame(
        {
            "sample_id": [f"{i:016x}" for i in range(n)],
            "source": [f"{domains[i % len(domains)]}-rows" for i in range(n)],
            "domain": [domains[i % len(domains)] for i in range(n)],
            "role": ["target"] * n,
            "instruction_id": [f"{i:016x}" for i in range(n)],
            "messages": [
                [{"role": "user", "content": f"{i} {text}"}, {"role": "assistant", "content": f"answer {i}"}] for i in range(n)
            ],
            "n_tokens": [10 + i for i in range(n)],
            "n_loss_tokens": [3 + i for i in range(n)],
            "license": ["MIT" if i % 2 else "CC-BY-4.0" for i in range(n)],
        },
        schema=pl.Schema(tables.SAMPLE),
    )


def composition(pool: pl.DataFrame, order: list[int], *, phase: int = 0) -> pl.DataFrame:
    """Return a composition that takes the pool's rows in the given order; a row taken again counts its repeats."""
    taken: dict[int, int] = {}
    repeats = [taken.__setitem__(i, taken.get(i, -1) + 1) or taken[i] for i in order]
    picked = pool[order]
    return picked.select(
        pl.int_range(pl.len(), dtype=pl.UInt64).alias("position"),
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("rank"),
        "sample_id", "source", "domain",
        pl.lit(phase, dtype=pl.UInt32).alias("phase"),
        pl.Series("repeat", repeats, dtype=pl.UInt32),
        (pl.col("domain") == "code").alias("is_replay"),
        "n_tokens", "n_loss_tokens",
    )  # fmt: skip


ORDER = [5, 0, 3, 3, 11, 8, 2, 0, 7]


def read_parquet(folder: Path) -> list[list[dict[str, str]]]:
    """Return the messages of the mix, shard after shard."""
    files = sorted((folder / "mix").glob("*.parquet"))
    return [row for file in files for row in pl.read_parquet(file)["messages"].to_list()]


def read_chat(folder: Path) -> list[list[dict[str, str]]]:
    """Return the messages of every line."""
    lines = (folder / "chat" / "train.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    return [json.loads(line)["messages"] for line in lines]


READ = {"parquet": read_parquet, "chat_jsonl": read_chat}


def test_every_exporter_is_read_back_here() -> None:
    assert READ.keys() == EXPORTERS.keys()


@pytest.mark.parametrize("name", EXPORTERS)
def test_reading_back_gives_the_same_messages_in_the_same_order(name: str, tmp_path: Path) -> None:
    pool = samples()
    EXPORTERS[name]().write(composition(pool, ORDER), pool, tmp_path)
    assert READ[name](tmp_path) == pool[ORDER]["messages"].to_list()


@pytest.mark.parametrize("name", EXPORTERS)
@settings(max_examples=15, deadline=None)
@given(order=st.lists(st.integers(0, 11), min_size=1, max_size=30), text=st.text(max_size=20))
def test_any_order_and_any_text_survive(
    name: str, order: list[int], text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pool, folder = samples(text=text), tmp_path_factory.mktemp("export")
    EXPORTERS[name]().write(composition(pool, order), pool, folder)
    assert READ[name](folder) == pool[order]["messages"].to_list()


@pytest.mark.parametrize("name", EXPORTERS)
def test_bytes_repeat_and_neither_table_needs_its_order(name: str, tmp_path: Path) -> None:
    pool = samples()
    rows = composition(pool, ORDER)
    for folder, frame, content in (("a", rows, pool), ("b", rows, pool), ("c", rows.reverse(), pool.reverse())):
        EXPORTERS[name]().write(frame, content, tmp_path / folder)
    written = {folder: _bytes(tmp_path / folder) for folder in "abc"}
    assert written["a"]
    assert written["a"] == written["b"] == written["c"]


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_row_without_its_sample_is_refused(name: str, tmp_path: Path) -> None:
    pool = samples()
    with pytest.raises(StoreError, match="samples of the composition are not in the pool; got 2 missing"):
        EXPORTERS[name]().write(composition(pool, ORDER), pool[:8], tmp_path)


@pytest.mark.parametrize("name", EXPORTERS)
def test_an_empty_composition_is_refused(name: str, tmp_path: Path) -> None:
    pool = samples()
    with pytest.raises(InputError, match="nothing to export: the composition has no rows"):
        EXPORTERS[name]().write(composition(pool, [0])[:0], pool, tmp_path)


@pytest.mark.parametrize("name", EXPORTERS)
def test_the_card_names_files_that_are_there(name: str, tmp_path: Path) -> None:
    pool = samples()
    exporter = EXPORTERS[name]()
    exporter.write(composition(pool, ORDER), pool, tmp_path)
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
    with pytest.raises(InputError, match="a domain that cannot be exported"):
        Parquet().write(composition(pool, [0, 1]), pool, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_parquet_holds_the_mix_and_each_domain_in_shards(tmp_path: Path) -> None:
    pool = samples()
    stats = Parquet(rows_per_shard=2).write(composition(pool, ORDER), pool, tmp_path)
    assert stats == {"rows": {"mix": 9, "code": 5, "law": 4}, "shards": {"mix": 5, "code": 3, "law": 2}}
    assert [p.name for p in sorted((tmp_path / "data" / "law").iterdir())] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    mix = pl.read_parquet(tmp_path / "mix" / "*.parquet")
    assert tuple(mix.columns) == COLUMNS
    assert mix["position"].to_list() == list(range(9))
    assert mix["repeat"].to_list() == [0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert mix["channel"].equals(mix["domain"].alias("channel"))
    assert mix["license"].to_list() == pool[ORDER]["license"].to_list()
    assert read_parquet(tmp_path) == pool[ORDER]["messages"].to_list()
    law = pl.read_parquet(tmp_path / "data" / "law" / "*.parquet")
    assert law.equals(mix.filter(pl.col("domain") == "law"))


def test_slices_join_to_the_whole() -> None:
    pool = samples()
    rows = Rows(composition(pool, ORDER), pool)
    assert pl.concat(rows.slices(size=4)).equals(pl.concat(rows.slices(size=SLICE)))
    assert [len(part) for part in rows.slices(size=4)] == [4, 4, 1]


def test_real_rows_survive(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip("shared/data is not here")
    frame = pl.read_parquet(DATA / "science.parquet").head(200)
    text = [[{"role": "user", "content": i}, {"role": "assistant", "content": o}] for i, o in _texts(frame)]
    pool = samples(200).with_columns(pl.Series("messages", text, dtype=pl.List(tables.MESSAGE)))
    rows = composition(pool, list(range(199, -1, -1)))
    for name, exporter in EXPORTERS.items():
        exporter().write(rows, pool, tmp_path)
        assert READ[name](tmp_path) == text[::-1]


def _texts(frame: pl.DataFrame) -> Iterator[tuple[Any, Any]]:
    return frame.select("instruction", "output").iter_rows()


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
