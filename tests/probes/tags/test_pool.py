"""A pool keeps names from run to run; it is named by a path and identified by its content."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pytest

from composer.errors import SourceError
from composer.spec import digest, member
from probes.tags import TAGGERS, Tagger
from probes.tags.pool import KNOWN, Pool
from probes.tags.spelling import normalise

TEXTS = [
    "Sort the linked list.", "Reverse the linked list.", "Sort these numbers: 3, 1, 2", "Translate these numbers.", "?!"
]  # fmt: skip


def written(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def tagger(**fields: object) -> Tagger:
    return member({"name": "keyphrase", **fields}, TAGGERS, kind="tagger")


def names(path: Path | str) -> dict[str, str]:
    return dict(Pool.read(str(path), spell=normalise).names)


class Fixed(Tagger):
    """Proposes what stands in the text, between commas."""

    name: str = "fixed"

    def propose(self, texts: list[str], *, folder: Path | None) -> list[tuple[str, ...]]:  # noqa: ARG002
        return [tuple(text.split(",")) for text in texts]


def test_a_run_leaves_its_tags_with_their_counts(tmp_path: Path) -> None:
    tags = tagger(top=2).tag(TEXTS * 2, folder=tmp_path)
    pool = Pool.read(str(tmp_path / "pool.parquet"), spell=normalise)
    assert pool.counts == {"linked list": 2, "numbers": 2, "sort": 2}
    assert {tag for own in tags for tag in own} == set(pool.names)
    assert pl.read_parquet_schema(tmp_path / "pool.parquet") == pl.Schema(KNOWN)


@pytest.mark.usefixtures("planted")
def test_the_same_texts_have_the_same_tags_again_and_the_pool_only_counts(tmp_path: Path) -> None:
    merge = {"embed": "planted", "min_samples": 2}
    texts = ["a 0,b 10", "b 10,c 20", "c 20", "far 90,a 0", "b 10"]
    first = Fixed(merge=merge).tag(texts, folder=tmp_path)
    assert first == [("b 10",), ("b 10",), ("b 10",), ("far 90", "b 10"), ("b 10",)]
    path = tmp_path / "pool.parquet"
    (tmp_path / "again").mkdir()
    assert Fixed(merge=merge, pool=str(path)).tag(texts, folder=tmp_path / "again") == first
    assert Fixed(pool=str(path)).tag(texts) == first  # names are remembered, not found anew
    before, after = (Pool.read(str(p), spell=normalise) for p in (path, tmp_path / "again" / "pool.parquet"))
    assert after.names == before.names
    assert after.counts == {tag: 2 * n for tag, n in before.counts.items()}


@pytest.mark.usefixtures("planted")
def test_a_name_does_not_reach_farther_from_run_to_run(tmp_path: Path) -> None:
    merge = {"embed": "planted"}
    path = written(tmp_path / "0.jsonl", {"tag": "a 0"})
    for run, angle in enumerate((20, 40, 60)):  # each within eps of the one before
        (folder := tmp_path / str(run)).mkdir()
        tags = Fixed(merge=merge, pool=path).tag([f"t {angle}"], folder=folder)
        path = str(folder / "pool.parquet")
        assert tags == [("a 0",)] if angle == 20 else tags != [("a 0",)]
    assert names(path) == {"a 0": "a 0", "t 20": "a 0", "t 40": "t 40", "t 60": "t 40"}


def test_new_tags_are_matched_after_normalisation_and_added(tmp_path: Path) -> None:
    path = written(tmp_path / "known.jsonl", {"tag": "Linked-List!", "count": 3}, {"tag": "sort", "name": "Ordering"})
    assert tagger(top=2, pool=path).tag(TEXTS, folder=tmp_path)[:2] == [("linked list", "ordering"), ("linked list",)]
    pool = Pool.read(str(tmp_path / "pool.parquet"), spell=normalise)
    assert pool.counts == {"linked list": 5, "sort": 2, "ordering": 0, "numbers": 2}
    assert pool.names["sort"] == "ordering"


@pytest.mark.usefixtures("planted")
def test_a_near_tag_goes_by_a_known_name(tmp_path: Path) -> None:
    path = written(tmp_path / "known.jsonl", {"tag": "known 10"}, {"tag": "alias 200", "name": "known 10"})
    texts = ["new 12", "new 190", "alias 200", "known 10,new 12"]
    assert Fixed(pool=path).tag(texts) == [("new 12",), ("new 190",), ("known 10",), ("known 10", "new 12")]
    merged = Fixed(pool=path, merge={"embed": "planted"}).tag(texts)
    assert merged == [("known 10",), ("new 190",), ("known 10",), ("known 10",)]


def test_the_pool_does_not_depend_on_order_or_repetition(tmp_path: Path) -> None:
    shuffled = random.Random(2).sample(TEXTS * 3, 3 * len(TEXTS))
    for folder, texts in (("a", TEXTS), ("b", shuffled)):
        (tmp_path / folder).mkdir()
        tagger(lemmas=()).tag(texts, folder=tmp_path / folder)
    assert (tmp_path / "a/pool.parquet").read_bytes() == (tmp_path / "b/pool.parquet").read_bytes()


def test_the_content_of_a_pool_bears_identity_and_its_path_does_not(tmp_path: Path) -> None:
    one, same = (written(tmp_path / name, {"tag": "sort"}) for name in ("one.jsonl", "same.jsonl"))
    other = written(tmp_path / "other.jsonl", {"tag": "sort", "count": 1})
    keys = [digest(tagger(pool=path)) for path in (one, same, other, None)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    written(tmp_path / "one.jsonl", {"tag": "order"})
    assert digest(tagger(pool=one)) != keys[0]


def test_no_pool_and_an_empty_one_are_alike(tmp_path: Path) -> None:
    Pool().write(tmp_path / "empty.parquet")
    assert tagger(pool=str(tmp_path / "empty.parquet")).tag(TEXTS) == tagger().tag(TEXTS)
    assert names(tmp_path / "empty.parquet") == {}


def test_what_is_spelt_alike_is_counted_together(tmp_path: Path) -> None:
    path = written(
        tmp_path / "p.jsonl", {"tag": "Sort", "count": 2}, {"tag": "sort!", "count": 3}, {"tag": "翻译", "name": None}
    )
    assert Pool.read(path, spell=normalise) == Pool({"sort": "sort", "翻译": "翻译"}, {"sort": 5, "翻译": 0})


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"name": "a"}], r"not a pool of tags: .*tag.*; expected Parquet, or .jsonl, with the column tag"),
        ([{"tag": "a", "count": -1}], "not a pool of tags: conversion from `i64` to `u64` failed"),
        ([{"tag": "a", "name": "b"}, {"tag": "A", "name": "c"}], "two names; expected one name per tag; got a: b and c"),
        ([{"tag": "a", "name": "b"}, {"tag": "b", "name": "c"}], "two names; expected one name per tag; got b: b and c"),
        ([{"tag": "a"}, {"tag": "?!"}], r"p.jsonl, row 1: a tag without letters and numbers; got '\?!', named '\?!'"),
    ],
)
def test_a_broken_pool_is_refused(rows: list[dict[str, object]], match: str, tmp_path: Path) -> None:
    path = written(tmp_path / "p.jsonl", *rows)
    with pytest.raises(SourceError, match=match):
        tagger(pool=path).tag(TEXTS)


def test_a_missing_pool_and_one_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"tags.pool: no such pool of tags; got /no/pool.parquet; name the pool.parquet of"):
        tagger(pool="/no/pool.parquet").tag(TEXTS)
    with pytest.raises(SourceError, match="no such pool"):
        tagger(pool="/no/pool.parquet").identity()
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(SourceError, match=r"text.parquet: not a pool of tags"):
        tagger(pool=str(tmp_path / "text.parquet")).tag(TEXTS)
