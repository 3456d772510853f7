"""Which copy stays: what is measured first, then the rule, then the floor of each source; and the report says all of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.dedup import DEDUP, Copies, Part, describe, find_copies
from composer.dedup.copies import FATE
from composer.errors import SpecError

BASE = " ".join(f"w{i}" for i in range(60))
MakePart = Callable[..., Part]


def kept(copies: Copies) -> list[tuple[int, int]]:
    return copies.fates.filter(pl.col("reason").is_null()).select("part", "row").rows()


def reasons(copies: Copies) -> list[tuple[int, int, str]]:
    return copies.fates.filter(pl.col("reason").is_not_null()).select("part", "row", "reason").rows()


def test_of_copies_the_first_source_keeps_its_own(make_part: MakePart) -> None:
    parts = [make_part("a", ["x", "y"]), make_part("b", ["z", "x", "u", "y"])]
    found = find_copies(parts, dedup=DEDUP["exact"]())
    assert dict(found.fates.schema) == dict(pl.Schema(FATE))
    assert reasons(found) == [(1, 1, "duplicate_across_sources"), (1, 3, "duplicate_across_sources")]
    assert describe(found.fates, parts, dedup=DEDUP["exact"]()) == {
        "method": "exact",
        "keep": "precedence",
        "sources": {
            "a": {"rows": 2, "kept": 2, "dropped": {}, "copies_of": {}, "taken_back": 0},
            "b": {"rows": 4, "kept": 2, "dropped": {"duplicate_across_sources": 2}, "copies_of": {"a": 2}, "taken_back": 0},
        },
        "emptied": [],
    }


def test_white_space_hides_no_copy(make_part: MakePart) -> None:
    found = find_copies([make_part("a", ["x  y\n"]), make_part("b", [" x y", "z"])], dedup=DEDUP["exact"]())
    assert reasons(found) == [(1, 0, "duplicate_across_sources")]


@pytest.mark.parametrize(
    ("keep", "stays"),
    [("precedence", "t"), ("first", "r"), ("longest", "l"), (["l", "t"], "l"), (["t"], "t"), (["r", "l"], "r")],
)
def test_the_rule_says_which_copy_stays(make_part: MakePart, keep: str | list[str], stays: str) -> None:
    parts = [
        make_part("r", [BASE + " one", "r1", "r2"], role="reference"),
        make_part("t", [BASE + " two", "t1", "t2"]),
        make_part("l", [BASE + " longer end", "l1", "l2"], role="replay"),
    ]
    found = find_copies(parts, dedup=DEDUP["near"](keep=keep))
    first = found.fates.filter((pl.col("row") == 0) & pl.col("reason").is_null())
    assert first["source"].to_list() == [stays]


@pytest.mark.parametrize("keep", ["precedence", "first", "longest", ["t", "v"]])
@pytest.mark.parametrize("name", ["exact", "near"])
@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_a_training_copy_of_a_measured_row_always_goes(make_part: MakePart, keep: object, name: str, floor: float) -> None:
    texts = [BASE, BASE + " a"]
    train = make_part("t", [texts[0], texts[1] + " and longer"])
    test = make_part("v", texts, role="validation")
    extra = make_part("r", [texts[0]], role="reference")
    parts = [train, test, extra]
    dedup = DEDUP[name](keep=keep, floor=floor)
    found = find_copies(parts, dedup=dedup)
    gone = reasons(found)
    assert (0, 0, "also_in_validation") in gone
    assert ((0, 1, "also_in_validation") in gone) is (name == "near")
    assert (2, 0, "duplicate_across_sources") in gone, "a reference is no leak"
    assert {(1, 0), (1, 1)} <= set(kept(found)), "what is measured is not thinned"
    report = describe(found.fates, parts, dedup=dedup)
    assert report["emptied"] == (["t", "r"] if name == "near" else ["r"])
    assert report["sources"]["r"] == {
        "rows": 1, "kept": 0, "dropped": {"duplicate_across_sources": 1}, "copies_of": {"v": 1}, "taken_back": 0
    }  # fmt: skip


def test_a_source_takes_exact_copies_back_in_their_place(make_part: MakePart) -> None:
    texts = [f"text {i}" for i in range(10)]
    parts = [make_part("a", texts), make_part("b", texts)]
    dedup = DEDUP["exact"](floor=0.25)
    found = find_copies(parts, dedup=dedup)
    assert kept(found) == [*((0, i) for i in range(3, 10)), (1, 0), (1, 1), (1, 2)], "three of ten, the first ones"
    report = describe(found.fates, parts, dedup=dedup)
    assert report["sources"]["b"]["taken_back"] == 3
    assert report["sources"]["a"]["copies_of"] == {"b": 3}


def test_a_source_takes_near_copies_back_beside_their_originals(make_part: MakePart) -> None:
    parts = [
        make_part("a", [f"{BASE} {i} a" for i in range(1)] + ["other"]),
        make_part("b", [f"{BASE} {i} b" for i in range(5)]),
    ]
    found = find_copies(parts, dedup=DEDUP["near"](floor=0.1))
    assert kept(found) == [(0, 0), (0, 1), (1, 0)]
    assert found.fates["beside"].to_list() == [False, False, True, False, False, False, False]
    assert {reason for *_, reason in reasons(found)} == {"near_duplicate"}
    assert kept(find_copies(parts, dedup=DEDUP["near"](floor=0))) == [(0, 0), (0, 1), (1, 0)], "one at least"


def test_a_source_gives_nothing_that_it_needs_itself(make_part: MakePart) -> None:
    parts = [make_part("a", ["x"]), make_part("b", ["x"])]
    dedup = DEDUP["exact"]()
    found = find_copies(parts, dedup=dedup)
    assert kept(found) == [(0, 0)]
    assert describe(found.fates, parts, dedup=dedup)["emptied"] == ["b"], "named, not silent"


def test_training_gives_nothing_to_references(make_part: MakePart) -> None:
    texts = [f"t{i}" for i in range(10)]
    parts = [make_part("t", texts), make_part("r", texts[:5], role="reference")]
    dedup = DEDUP["exact"](floor=0.5)
    found = find_copies(parts, dedup=dedup)
    assert describe(found.fates, parts, dedup=dedup)["emptied"] == ["r"]


SOURCES = st.lists(
    st.tuples(
        st.sampled_from(["target", "replay", "validation", "reference"]), st.lists(st.integers(0, 12), unique=True, max_size=9)
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sources=SOURCES, name=st.sampled_from(["exact", "near"]), floor=st.sampled_from([0.0, 0.3, 1.0]))
def test_the_laws_of_every_account(tmp_path_factory: pytest.TempPathFactory, sources: list[tuple[str, list[int]]], name: str,
                                   floor: float) -> None:  # fmt: skip
    from composer.ingest.keys import key

    folder = tmp_path_factory.mktemp("parts")
    texts = [f"{BASE} {i // 4} end {i % 4}" if i < 8 else f"plain {i}" for i in range(13)]  # 0 to 7 are all alike
    parts = []
    for i, (role, numbers) in enumerate(sources):
        messages = [[{"role": "assistant", "content": texts[n]}] for n in numbers]
        schema = {"messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})), "key": pl.Binary}
        (folder / f"{i}").mkdir()
        frame = pl.DataFrame({"messages": messages, "key": [key(each) for each in messages]}, schema=schema)
        frame.write_parquet(folder / f"{i}/rows-00000.parquet")
        parts.append(Part.of_read(folder / f"{i}", source=f"s{i}", role=role))  # type: ignore[arg-type]
    dedup = DEDUP[name](floor=floor)
    found = find_copies(parts, dedup=dedup)
    report = describe(found.fates, parts, dedup=dedup)
    stays = [sources[part][1][row] for part, row in kept(found)]
    assert len(stays) == len(set(stays)), "every text once"
    measured = {n for role, numbers in sources for n in numbers if role == "validation"}
    for i, (role, numbers) in enumerate(sources):
        told = report["sources"][f"s{i}"]
        assert told["rows"] == len(numbers) == told["kept"] + sum(told["dropped"].values())
        assert sum(told["copies_of"].values()) == sum(told["dropped"].values())
        own = {numbers[row] for part, row in kept(found) if part == i}
        if role in ("target", "replay"):
            assert not own & measured
            assert not (name == "near" and measured & set(range(8)) and own & set(range(8))), "nor a near copy"
        leaks = told["dropped"].get("also_in_validation", 0)
        if name == "near" and not leaks and role != "reference" and not _shared(sources, i, numbers):
            assert told["kept"] >= min(len(numbers), max(1, math.ceil(floor * len(numbers)))) or not numbers
        assert (f"s{i}" in report["emptied"]) == (bool(numbers) and not told["kept"])


def _shared(sources: list[tuple[str, list[int]]], mine: int, numbers: list[int]) -> bool:
    """Whether another source has one of the very texts, so that they may have to share."""
    return any(set(numbers) & set(others) for i, (_, others) in enumerate(sources) if i != mine)


def test_keep_names_known_sources(make_part: MakePart) -> None:
    with pytest.raises(SpecError, match=r"dedup\.keep: no such source; got alpaka; did you mean 'alpaca'"):
        find_copies([make_part("alpaca", ["x"])], dedup=DEDUP["exact"](keep=["alpaka"]))


def test_parts_without_rows(make_part: MakePart) -> None:
    parts = [make_part("a", []), make_part("b", [])]
    found = find_copies(parts, dedup=DEDUP["near"]())
    assert not len(found.fates)
    assert describe(found.fates, parts, dedup=DEDUP["near"]())["sources"]["a"]["rows"] == 0
