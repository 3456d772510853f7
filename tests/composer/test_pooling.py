"""Pool keeps every conversation once, never trains on what it measures, and holds out the same rows whatever their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer import tables
from composer.decontaminate import Decontaminate
from composer.dedup import DEDUP
from composer.errors import SourceError, SpecError
from composer.fingerprint import sha256
from composer.ingest.keys import key
from composer.pooling import pool
from composer.spec import digest, seed_of

FILES = ("samples.parquet", "instructions.parquet", "dropped.parquet")


def part(folder: Path, texts: list[str], *, source: str = "s", domain: str = "d", role: str = "target") -> Path:
    """An ingested folder of documents, without the tokenizer."""
    folder.mkdir(parents=True)
    rows = [
        {
            "sample_id": digest(text), "source": source, "domain": domain, "role": role, "instruction_id": digest(text[:1]),
            "messages": [{"role": "user", "content": text[:1]}, {"role": "assistant", "content": text}],
            "n_tokens": 2 * len(text), "n_loss_tokens": len(text), "license": "MIT",
        }
        for text in texts
    ]  # fmt: skip
    samples = pl.DataFrame(rows, schema=pl.Schema(tables.SAMPLE))
    instructions = pl.DataFrame([(digest(c), c) for c in dict.fromkeys(t[:1] for t in texts)], tables.INSTRUCTION, orient="row")
    dropped = pl.DataFrame([(source, 3, "no_answer", "{}")], pl.Schema(tables.DROPPED), orient="row")
    for frame, name, schema in zip(
        (samples, instructions, dropped), FILES, (tables.SAMPLE, tables.INSTRUCTION, tables.DROPPED), strict=True
    ):
        tables.write(frame, folder / name, schema)
    keys = pl.Series("key", [key(row["messages"]) for row in rows], dtype=pl.Binary)
    keys.to_frame().write_parquet(folder / "keys.parquet")
    return folder


def read(folder: Path) -> pl.DataFrame:
    return tables.read(folder / "samples.parquet", tables.SAMPLE)


def held(folder: Path) -> set[str]:
    return set(read(folder).filter(pl.col("role") == "validation")["sample_id"])


def check_laws(parts: list[Path], folder: Path, stats: dict[str, Any]) -> None:
    given_ = pl.concat([read(p) for p in parts])
    made, dropped = read(folder), tables.read(folder / "dropped.parquet", tables.DROPPED)
    instructions = tables.read(folder / "instructions.parquet", tables.INSTRUCTION)
    copies = sum(n for reasons in stats["duplicates"].values() for n in reasons.values())
    assert made["sample_id"].is_unique().all()
    assert set(made["sample_id"]) == set(given_["sample_id"])
    assert len(given_) == stats["samples"] + copies
    assert len(dropped) == copies + len(parts), "each part brings one dropped row of its own"
    for told in stats["dedup"]["sources"].values():
        assert told["rows"] == told["kept"] + sum(told["dropped"].values())
    assert sum(told["kept"] for told in stats["dedup"]["sources"].values()) == stats["samples"]
    assert instructions["instruction_id"].is_unique().all()
    assert set(instructions["instruction_id"]) == set(made["instruction_id"])
    for unit, column in (("tokens", "n_tokens"), ("loss_tokens", "n_loss_tokens")):
        by_role = sum(role[unit] for roles in stats["domains"].values() for role in roles.values())
        assert by_role == stats[unit] == made[column].sum()
    for domain, roles in stats["domains"].items():
        for role, counts in roles.items():
            assert counts["samples"] == len(made.filter((pl.col("domain") == domain) & (pl.col("role") == role)))


def test_a_copy_stays_with_the_first_source(tmp_path: Path) -> None:
    parts = [part(tmp_path / "a", ["x1", "x2"], source="a"), part(tmp_path / "b", ["x2", "x3", "x1"], source="b", domain="e")]
    stats = pool(parts, tmp_path / "out", holdout=0, seed=1)
    check_laws(parts, tmp_path / "out", stats)
    assert stats["duplicates"] == {"b": {"duplicate_across_sources": 2}}
    assert read(tmp_path / "out")["source"].to_list() == ["a", "a", "b"]
    dropped = tables.read(tmp_path / "out/dropped.parquet", tables.DROPPED)
    assert dropped["source"].to_list() == ["a", "b", "b", "b"]
    told = dropped.filter(pl.col("reason") == "duplicate_across_sources")
    assert told["row"].to_list() == [0, 2]
    assert '"content":"x2"' in told["text"][0]


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("role", ["target", "replay", "reference"])
def test_a_measured_text_is_never_trained_on(tmp_path: Path, order: str, role: str) -> None:
    train = part(tmp_path / "t", ["x1", "x2"], source="t", role=role)
    test = part(tmp_path / "v", ["x1"], source="v", role="validation")
    other = part(tmp_path / "o", ["y"], source="o", domain="e")
    parts = [train, test, other] if order == "before" else [test, train, other]
    stats = pool(parts, tmp_path / "out", holdout=0, seed=1)
    check_laws(parts, tmp_path / "out", stats)
    reason = "duplicate_across_sources" if role == "reference" else "also_in_validation"
    assert stats["duplicates"] == {"t": {reason: 1}}
    assert stats["domains"]["d"]["validation"]["samples"] == 1


def test_training_rows_come_before_references(tmp_path: Path) -> None:
    parts = [part(tmp_path / "r", ["x"], source="r", role="reference"), part(tmp_path / "t", ["x"], source="t")]
    stats = pool(parts, tmp_path / "out", holdout=0, seed=1)
    check_laws(parts, tmp_path / "out", stats)
    assert stats["domains"] == {"d": {"target": {"samples": 1, "tokens": 2, "loss_tokens": 1}}}
    assert stats["dedup"]["emptied"] == ["r"]


def test_holdout_is_about_its_share_of_each_domain(tmp_path: Path) -> None:
    parts = [part(tmp_path / name, [f"{name}{i}" for i in range(2_000)], domain=name) for name in "ab"]
    stats = pool(parts, tmp_path / "out", holdout=0.1, seed=1)
    check_laws(parts, tmp_path / "out", stats)
    counts = [stats["domains"][name]["validation"]["samples"] for name in "ab"]
    assert all(abs(n - 200) < 5 * (2_000 * 0.1 * 0.9) ** 0.5 for n in counts), "within five standard errors"
    assert stats["held_out"] == sum(counts)


def test_the_rows_with_the_smallest_draws_are_held_out(tmp_path: Path) -> None:
    texts = [f"x{i}" for i in range(200)]
    draws = {digest(text): seed_of(9, "holdout", digest(text)) / 2**31 for text in texts}
    a = part(tmp_path / "a", texts)
    pool([a], tmp_path / "many", holdout=0.25, seed=9)
    assert held(tmp_path / "many") == {name for name, draw in draws.items() if draw < 0.25}
    pool([a], tmp_path / "one", holdout=1e-9, seed=9)
    assert held(tmp_path / "one") == {min(draws, key=draws.__getitem__)}
    pool([a], tmp_path / "most", holdout=1 - 1e-9, seed=9)
    assert held(tmp_path / "most") == draws.keys() - {max(draws, key=draws.__getitem__)}


def test_nothing_is_held_out_where_validation_is_given_or_not_wanted(tmp_path: Path) -> None:
    many = [f"x{i}" for i in range(50)]
    train, test = part(tmp_path / "t", many), part(tmp_path / "v", ["v"], role="validation")
    assert pool([train, test], tmp_path / "a", holdout=0.5, seed=1)["held_out"] == 0
    assert pool([train], tmp_path / "b", holdout=0, seed=1)["held_out"] == 0
    reference = part(tmp_path / "r", [f"r{i}" for i in range(50)], domain="e", role="reference")
    assert set(pool([train, reference], tmp_path / "c", holdout=0.5, seed=1)["domains"]["e"]) == {"reference"}


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 6), holdout=st.sampled_from([0.001, 0.5, 0.999]), seed=st.integers(0, 2**40))
def test_at_least_one_and_never_all(tmp_path_factory: pytest.TempPathFactory, n: int, holdout: float, seed: int) -> None:
    folder = tmp_path_factory.mktemp("pool")
    texts = [f"x{i}" for i in range(n)]
    stats = pool([part(folder / "a", texts)], folder / "out", holdout=holdout, seed=seed)
    assert (stats["held_out"] == 0) if n == 1 else (1 <= stats["held_out"] < n)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(40)), cut=st.integers(1, 39))
def test_the_held_out_rows_do_not_depend_on_the_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cut: int
) -> None:
    folder, texts = tmp_path_factory.mktemp("pool"), [f"x{i}" for i in range(40)]
    pool([part(folder / "a", texts)], folder / "one", holdout=0.3, seed=5)
    mixed = [texts[i] for i in order]
    parts = [
        part(folder / "b", mixed[:cut]),
        part(folder / "c", mixed[cut:], role="replay"),
        part(folder / "e", ["y"], domain="e"),
    ]
    pool(parts, folder / "two", holdout=0.3, seed=5)
    assert held(folder / "one") == held(folder / "two")


def test_rows_added_later_leave_the_choice_as_it_was(tmp_path: Path) -> None:
    texts = [f"x{i}" for i in range(300)]
    pool([part(tmp_path / "a", texts[:200])], tmp_path / "one", holdout=0.2, seed=5)
    pool([part(tmp_path / "b", texts)], tmp_path / "two", holdout=0.2, seed=5)
    old = {digest(text) for text in texts[:200]}
    assert held(tmp_path / "one") == held(tmp_path / "two") & old
    pool([tmp_path / "a"], tmp_path / "other", holdout=0.2, seed=6)
    assert held(tmp_path / "other") != held(tmp_path / "one")


def test_the_same_parts_give_the_same_bytes(tmp_path: Path) -> None:
    parts = [
        part(tmp_path / "a", [f"{i % 10}a{i}" for i in range(900)], source="a"),
        part(tmp_path / "b", [f"{i % 10}a{i}" for i in range(500, 1_500)], source="b", role="validation", domain="e"),
        part(tmp_path / "c", [f"{i % 10}a{i}" for i in range(1_200, 1_900)], source="c", role="replay", domain="f"),
    ]
    sums = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        check_laws(parts, folder, pool(parts, folder, holdout=0.1, seed=3))
        sums.append([sha256(folder / name) for name in FILES])
    assert sums[0] == sums[1]


def test_a_pool_without_target_rows_is_refused(tmp_path: Path) -> None:
    parts = [part(tmp_path / "r", ["x"], role="reference"), part(tmp_path / "v", ["y"], role="validation")]
    with pytest.raises(SourceError, match=r"^sources: no target rows; .*got 1 reference, 1 validation"):
        pool(parts, tmp_path / "out", holdout=0.1, seed=1)
    with pytest.raises(SourceError, match="no sources to pool"):
        pool([], tmp_path / "out", holdout=0.1, seed=1)


@pytest.mark.parametrize("holdout", [-0.1, 1, float("nan")])
def test_a_holdout_is_a_share_below_one(tmp_path: Path, holdout: float) -> None:
    with pytest.raises(SpecError, match=r"^holdout: not a share"):
        pool([part(tmp_path / "a", ["x"])], tmp_path / "out", holdout=holdout, seed=1)


LONG = " ".join(f"w{i}" for i in range(60))


def test_a_text_written_otherwise_is_the_same_text(tmp_path: Path) -> None:
    parts = [part(tmp_path / "a", ["x one  two"], source="a"), part(tmp_path / "b", ["x one two\n", "y"], source="b")]
    stats = pool(parts, tmp_path / "out", holdout=0, seed=1)
    assert stats["duplicates"] == {"b": {"duplicate_across_sources": 1}}
    assert len(read(tmp_path / "out")) == 2


def test_near_copies_go_within_and_across_sources(tmp_path: Path) -> None:
    a = part(tmp_path / "a", [f"{LONG} one", f"{LONG} two", "other words"], source="a")
    b = part(tmp_path / "b", [f"{LONG} three", "another text"], source="b", domain="e")
    stats = pool([a, b], tmp_path / "out", holdout=0, seed=1, dedup=DEDUP["near"]())
    assert stats["duplicates"] == {"a": {"near_duplicate": 1}, "b": {"near_duplicate": 1}}
    assert stats["dedup"]["sources"]["b"]["copies_of"] == {"a": 1}
    dropped = tables.read(tmp_path / "out/dropped.parquet", tables.DROPPED).filter(pl.col("reason") == "near_duplicate")
    assert dropped.select("source", "row").rows() == [("a", 1), ("b", 0)]


def test_semantic_copies_are_found_by_the_embedder_given(tmp_path: Path) -> None:
    def embed(texts: Any) -> np.ndarray:
        return np.array([[1, 0] if "cat" in text else [0, 1] for text in texts], dtype=np.float32)

    texts = ["a cat", "the cat", "dog"]
    stats = pool([part(tmp_path / "a", texts)], tmp_path / "out", holdout=0, seed=1, dedup=DEDUP["semantic"](), embed=embed)
    assert stats["duplicates"] == {"s": {"semantic_duplicate": 1}}


def test_no_copy_of_what_is_held_out_stays_by_the_floor(tmp_path: Path) -> None:
    originals = [f"{LONG} {'w' * i} tail" for i in range(1, 4)] + [f"text {i} of many" for i in range(30)]
    a = part(tmp_path / "a", originals, source="a")
    b = part(tmp_path / "b", [f"{LONG} other", f"{LONG} more"], source="b")
    seen = set()
    for seed in range(12):
        folder = tmp_path / f"out{seed}"
        stats = pool([a, b], folder, holdout=0.5, seed=seed, dedup=DEDUP["near"]())
        made = read(folder)
        of_b = made.filter(pl.col("source") == "b")["role"].to_list()
        long = made.filter(pl.col("source") == "a", pl.col("messages").list.last().struct["content"].str.starts_with("w0"))
        held_original = long["role"].to_list() == ["validation"]
        assert of_b == ([] if held_original else ["target"]), "beside its original, but never beside a measured one"
        assert stats["dedup"]["emptied"] == (["b"] if held_original else [])
        assert stats["duplicates"]["b"].get("also_in_validation", 0) == int(held_original)
        seen.add(held_original)
    assert seen == {True, False}


def test_nor_a_copy_that_has_two_originals(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(70)]
    left, middle, right = (" ".join(words[k : 60 + k]) for k in (0, 5, 10))  # the middle is near both, they are not near
    a = part(tmp_path / "a", [left, right, *(f"text {i} of many" for i in range(10))], source="a")
    b = part(tmp_path / "b", [middle], source="b")
    seen = set()
    for seed in range(30):
        folder = tmp_path / f"out{seed}"
        pool([a, b], folder, holdout=0.5, seed=seed, dedup=DEDUP["near"]())
        role = dict(read(folder).select("sample_id", "role").rows())
        measured = {text for text in (left, right) if role[digest(text)] == "validation"}
        assert (digest(middle) in role) is not bool(measured)
        seen.add(frozenset(measured))
    assert len(seen) == 4


def test_rows_that_hold_measured_texts_are_dropped_or_told(tmp_path: Path) -> None:
    question = " ".join(f"q{i}" for i in range(20))
    a = part(tmp_path / "a", [f"please read {question} now", "clean words", question], source="a")
    v = part(tmp_path / "v", [question], source="v", role="validation", domain="e")
    spec = Decontaminate(validation=True)
    stats = pool([a, v], tmp_path / "out", holdout=0, seed=1, decontaminate=spec)
    assert stats["duplicates"] == {"a": {"also_in_validation": 1, "contaminated": 1}}
    assert stats["decontamination"]["validation"]["sources"]["a"]["rows"] == 1, "what is dropped as a copy is not looked at"
    assert stats["decontamination"]["validation"]["sources"]["a"]["examples"][0]["row"] == 0
    assert [told["kept"] for told in stats["dedup"]["sources"].values()] == [1, 1]
    told = pool([a, v], tmp_path / "told", holdout=0, seed=1, decontaminate=Decontaminate(validation=True, action="report"))
    assert told["decontamination"] == stats["decontamination"]
    assert len(read(tmp_path / "told")) == 3
    assert pool([a, v], tmp_path / "plain", holdout=0, seed=1)["decontamination"] == {}


def test_a_source_without_rows_is_pooled_as_nothing(tmp_path: Path) -> None:
    stats = pool(
        [part(tmp_path / "a", ["x"], source="a"), part(tmp_path / "b", [], source="b")], tmp_path / "out", holdout=0, seed=1
    )
    assert stats["samples"] == 1
    assert stats["dedup"]["emptied"] == []
