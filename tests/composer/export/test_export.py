"""One battery for every exporter: what is read back is what was composed, in its order, and the bytes repeat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer import tables
from composer.conversation import extras_of, whole
from composer.errors import InputError, SpecError, StoreError
from composer.export import EXPORTERS, content
from composer.export.parquet import Parquet
from composer.export.rows import COLUMNS, SCHEMA, cuts, licenses
from composer.spec import rng
from composer.types import Source

NASTY = 'tab\t, "quotes", \\back, new\nline, <b>, é 漢 🙂, \u2028 and \x00'
ROOT = Path(__file__).parents[3]
DATA = ROOT / "../shared/data/domains"

HELD, SPILLED = 1.0, 1e-9
"""Bounds of memory in GB: all content at once, and next to nothing."""

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"é": {}}}}}]
CALLED = extras_of({1: {"tool_calls": [{"name": "add", "arguments": {"a": 1}}], "thinking": "hm"}}, TOOLS)
"""Extras of a row that calls a tool after some thought."""

Folder = Callable[..., Path]


def samples(n: int = 12, *, domains: Sequence[str] = ("law", "code"), text: str = NASTY) -> pl.DataFrame:
    """Return n samples dealt to the domains in turn; every fifth calls a tool."""
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
            "source_revision": [f"rev-{i % 2}" for i in range(n)],
            "extras": [CALLED if i % 5 == 3 else None for i in range(n)],
        },
        schema=pl.Schema(tables.SAMPLE),
    )


def composition(pool: pl.DataFrame, order: Sequence[int], *, phase: int = 0) -> pl.DataFrame:
    """Return a composition that takes the pool's rows in the given order; a row taken again counts its repeats."""
    taken: dict[int, int] = {}
    repeats = [taken.__setitem__(i, taken.get(i, -1) + 1) or taken[i] for i in order]
    picked = pool[list(order)]
    return picked.select(
        pl.int_range(pl.len(), dtype=pl.UInt64).alias("position"),
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("rank"),
        pl.Series("row", list(order), dtype=pl.UInt32),
        "sample_id", "source", "domain",
        pl.lit(phase, dtype=pl.UInt32).alias("phase"),
        pl.Series("repeat", repeats, dtype=pl.UInt32),
        (pl.col("domain") == "code").alias("is_replay"),
        "n_tokens", "n_loss_tokens",
    )  # fmt: skip


ORDER = [5, 0, 3, 3, 11, 8, 2, 0, 7]


def lay(folder: Path, pool: pl.DataFrame, rows: pl.DataFrame, *, row_group: int | None = None) -> tuple[Path, Path]:
    """Write a composition and its samples as tables and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / "composition.parquet", row_group_size=row_group)
    pool.write_parquet(folder / "samples.parquet", row_group_size=row_group)
    return folder / "composition.parquet", folder / "samples.parquet"


def read_parquet(folder: Path) -> list[Any]:
    """Return the whole conversations of the mix, shard after shard."""
    files = sorted((folder / "mix").glob("*.parquet"))
    rows = (row for file in files for row in pl.read_parquet(file).select("messages", "extras").iter_rows())
    return [whole(messages, extras) for messages, extras in rows]


def read_chat(folder: Path) -> list[Any]:
    """Return the whole conversations of every line."""
    lines = (folder / "chat" / "train.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    return [whole_of(json.loads(line)) for line in lines]


def whole_of(row: dict[str, Any]) -> Any:
    """Return a line as a whole conversation."""
    assert set(row) - {"tools"} == {"messages", "domain", "source"}
    found = whole([], None)
    return type(found)(row["messages"], row.get("tools"))


def planned(pool: pl.DataFrame, order: Sequence[int]) -> list[Any]:
    """Return the whole conversations of the pool's rows in an order."""
    return [whole(messages, extras) for messages, extras in pool[list(order)].select("messages", "extras").iter_rows()]


READ = {"parquet": read_parquet, "chat_jsonl": read_chat}
every = pytest.mark.parametrize("name", EXPORTERS)
both_ways = pytest.mark.parametrize("memory_gb", [HELD, SPILLED], ids=["held", "spilled"])


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
@settings(max_examples=15, deadline=None)
@given(order=st.lists(st.integers(0, 11), min_size=1, max_size=30), text=st.text(max_size=20), held=st.booleans())
def test_any_order_and_any_text_survive(
    name: str, order: list[int], text: str, held: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pool, folder = samples(text=text), tmp_path_factory.mktemp("export")
    tables_ = lay(folder / "in", pool, composition(pool, order), row_group=5)
    EXPORTERS[name](memory_gb=HELD if held else SPILLED).write(*tables_, folder)
    assert READ[name](folder) == planned(pool, order)


def many(seed: int, *, n: int = 3000) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return samples of very unequal length and a long composition of them in random order with repeats."""
    dice = rng(seed, "export")
    pool = samples(n, domains=("law", "code", "law", "news"), text="x")
    long = [str(i) + "wörd " * int(k) for i, k in enumerate(dice.geometric(0.02, n))]
    talks = [[{"role": "user", "content": text}, {"role": "assistant", "content": text[:9]}] for text in long]
    pool = pool.with_columns(pl.Series("messages", talks, dtype=pl.List(tables.MESSAGE)))
    return pool, composition(pool, dice.integers(0, n, 2 * n).tolist())


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make groups, chunks and buckets so small that a small pool needs many of each."""
    monkeypatch.setattr("composer.export.rows.GROUP", 250)
    monkeypatch.setattr("composer.export.rows.STRETCH", 600)
    monkeypatch.setattr(content, "CHUNK", 20_000)
    monkeypatch.setattr(content, "BUCKET", 50_000)


@every
@pytest.mark.usefixtures("narrow")
def test_the_bytes_follow_neither_the_memory_nor_how_the_tables_are_cut(name: str, tmp_path: Path) -> None:
    pool, rows = many(1)
    for folder, memory_gb, row_group in (("a", HELD, 400), ("b", SPILLED, 400), ("c", SPILLED, 700), ("d", HELD, 97)):
        files = lay(tmp_path / "in" / folder, pool, rows, row_group=row_group)
        shards = {"rows_per_shard": 1100} if name == "parquet" else {}
        EXPORTERS[name](memory_gb=memory_gb, **shards).write(*files, tmp_path / folder)
    written = {folder: _bytes(tmp_path / folder) for folder in "abcd"}
    assert len(written["a"]) == (1 if name == "chat_jsonl" else 6 + 2 + 3 + 2)
    assert written["a"] == written["b"] == written["c"] == written["d"]
    assert READ[name](tmp_path / "b") == planned(pool, rows["row"].to_list())


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
    assert len(list((tmp_path / "aside").glob("*.arrow"))) > 5
    found += groups
    assert [len(group) for group in found] == np.diff(at).tolist()
    assert all(a.equals(b) for a, b in zip(found, gathered, strict=True))
    assert pl.concat(found)["messages"].to_list() == pool[rows["row"]]["messages"].to_list()
    assert not (tmp_path / "aside").exists()


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
        runs.append(_bytes(tmp_path / f"with-{threads}"))
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
    (tmp_path / "out" / ".buckets" / "0.arrow").write_bytes(b"half a file")
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
    assert list(_bytes(tmp_path / "out")) == ["mix/train-00000-of-00001.parquet"]


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


def test_plain_rows_of_a_chat_look_as_ever_and_others_carry_their_tools(tmp_path: Path) -> None:
    pool = samples(4, text="hi")
    EXPORTERS["chat_jsonl"]().write(*lay(tmp_path / "in", pool, composition(pool, [2, 3])), tmp_path)
    plain, called = (tmp_path / "chat" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    turns = '[{"role":"user","content":"2 hi"},{"role":"assistant","content":"answer 2"}]'
    assert plain == f'{{"messages":{turns},"domain":"law","source":"law-rows"}}'
    assert json.loads(called)["tools"] == TOOLS
    assert json.loads(called)["messages"][1]["tool_calls"] == [{"name": "add", "arguments": {"a": 1}}]


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


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
