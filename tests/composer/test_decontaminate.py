"""Evaluation texts are found where they stand, in any file, and nothing else is; every set and source has its count."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.decontaminate import Decontaminate, Known, Said, find_contamination
from composer.dedup import Part
from composer.dedup.ngrams import words
from composer.errors import SourceError, SpecError
from composer.spec import rng

DATA = Path(__file__).parents[2] / "../shared/data"
QUESTION = "A farmer has twelve sheep, sells five of them, and buys nine more on the next market day: how many are there?"
MakePart = Callable[..., Part]


@pytest.fixture
def make_part(tmp_path: Path) -> MakePart:
    def make(source: str, texts: Sequence[str], *, role: Any = "target") -> Part:
        folder = tmp_path / "parts" / source
        folder.mkdir(parents=True)
        schema = {"messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})), "key": pl.Binary}
        messages = [[{"role": "user", "content": text}, {"role": "assistant", "content": "Well."}] for text in texts]
        frame = pl.DataFrame({"messages": messages, "key": [text.encode() for text in texts]}, schema=schema)
        frame.write_parquet(folder / "rows-00000.parquet")
        return Part.of_read(folder, source=source, role=role)

    return make


def evaluation(folder: Path, rows: list[object], *, name: str = "eval", **fields: Any) -> dict[str, Any]:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"name": name, "path": str(path), **fields}


def found(parts: list[Part], *sets: dict[str, Any], **fields: Any) -> tuple[list[bool], dict[str, Any]]:
    result = find_contamination(parts, spec=Decontaminate(against=sets, **fields))
    return result.mask.tolist(), result.report


def test_case_and_punctuation_hide_nothing(tmp_path: Path, make_part: MakePart) -> None:
    hidden = QUESTION.upper().replace(",", " --").replace(":", " ... ")
    part = make_part("a", [f"Solve this. {hidden} Think first.", "Something else about a farmer and twelve sheep", QUESTION])
    mask, report = found([part], evaluation(tmp_path, [{"id": "x-1", "question": QUESTION, "answer": "16"}]))
    assert mask == [True, False, True]
    n = len(words(pl.Series([QUESTION]), symbols=False)[0])
    assert report == {
        "eval": {
            "texts": 1,
            "ngrams": n - 12,
            "too_short": 2,
            "common": 0,
            "sources": {
                "a": {
                    "rows": 2,
                    "examples": [
                        {"row": 0, "text": "a farmer has twelve sheep sells five of them and buys nine more"},
                        {"row": 2, "text": "a farmer has twelve sheep sells five of them and buys nine more"},
                    ],
                }
            },
        }
    }
    json.dumps(report)


def test_strings_are_found_however_deep(tmp_path: Path, make_part: MakePart) -> None:
    part = make_part("a", [QUESTION])
    for row in ([QUESTION], {"a": {"b": [{"c": QUESTION}]}}, QUESTION, {"n": 3, "x": None, "turns": [[1, QUESTION]]}):
        assert found([part], evaluation(tmp_path, [row]))[0] == [True]
    assert found([part], evaluation(tmp_path, [{"n": 3, "x": None}]))[0] == [False]


def test_columns_and_rows_that_are_not_wanted_are_not_read(tmp_path: Path, make_part: MakePart) -> None:
    part = make_part("a", [QUESTION])
    row = {"template": QUESTION, "question": "Another text", "split": "test"}
    assert found([part], evaluation(tmp_path, [row]))[0] == [True]
    assert found([part], evaluation(tmp_path, [row], only=["question", "split"]))[0] == [False]
    assert found([part], evaluation(tmp_path, [row], where={"split": "test"}))[0] == [True]
    assert found([part], evaluation(tmp_path, [row], where={"split": "train"}))[0] == [False]
    assert found([part], evaluation(tmp_path, ["one", row], limit=1))[0] == [False]


def test_broken_rows_of_a_set_do_no_harm(tmp_path: Path, make_part: MakePart) -> None:
    path = tmp_path / "eval.jsonl.gz"
    lines = [b"{broken", b"", json.dumps(QUESTION).encode(), b'{"half": "\\ud83d ' + b"x " * 20 + b'"}', b'"\xff\xfe"']
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    assert found([make_part("a", [QUESTION])], {"name": "eval", "path": str(path)})[0] == [True]


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("What is the capital of France?", True),
        ("what is the capital of FRANCE", True),
        ("Answer in one word.\n\nWhat is the capital of France?\nThink.", True),
        ("He asked what is the capital of France and left", False),
        ("Paris", False),
    ],
)
def test_short_texts_are_found_as_whole_lines(tmp_path: Path, make_part: MakePart, text: str, is_found: bool) -> None:
    rows: list[object] = [{"question": "What is the capital of France?", "answer": "Paris"}]
    mask, report = found([make_part("a", [text])], evaluation(tmp_path, rows))
    assert mask == [is_found]
    assert (report["eval"]["texts"], report["eval"]["too_short"]) == (1, 1)
    if is_found:
        assert report["eval"]["sources"]["a"]["examples"][0]["text"] == "what is the capital of france"


def test_labels_are_evidence_only_where_asked(tmp_path: Path, make_part: MakePart) -> None:
    part = make_part("a", ["Paris"])
    assert found([part], evaluation(tmp_path, [{"answer": "Paris"}]))[0] == [False]
    assert found([part], evaluation(tmp_path, [{"answer": "Paris"}]), shortest=1)[0] == [True]


def test_what_many_rows_have_is_no_evidence(tmp_path: Path, make_part: MakePart) -> None:
    template = "Read the following passage and answer the question after it with one word, true or false, please."
    part = make_part("a", [*(f"{template} Passage {i}" for i in range(6)), f"{template} {QUESTION}"])
    sets = evaluation(tmp_path, [f"{template} {QUESTION}"])
    mask, report = found([part], sets, common=6)
    assert mask == [False] * 6 + [True]
    assert report["eval"]["common"] == len(words(pl.Series([template]), symbols=False)[0]) - 12
    assert report["eval"]["sources"]["a"]["examples"][0]["text"].startswith("the following passage") is False
    assert found([part], sets, common=7)[0] == [True] * 7
    assert found([part], sets, common=None)[0] == [True] * 7
    slices = found([part, make_part("b", [template])], sets, common=7)[0]
    assert slices == [False] * 6 + [True, False], "counted over all sources"


def test_the_share_is_of_the_rows_own_n_grams(tmp_path: Path, make_part: MakePart) -> None:
    n = len(words(pl.Series([QUESTION]), symbols=False)[0])
    more = " ".join(f"w{i}" for i in range(100 - n))
    part = make_part("a", [QUESTION, f"{QUESTION} {more}"])
    grams_of_second = 100 + 1 - 12  # and the one word of the answer
    share = (n - 12) / grams_of_second
    sets = evaluation(tmp_path, [QUESTION])
    assert found([part], sets, min_share=share - 1e-9)[0] == [True, True]
    assert found([part], sets, min_share=share)[0] == [True, False]
    assert found([part], sets, min_share=0.99)[0] == [False, False], "the answer is a gram more"


def test_a_line_of_just_one_n_gram_counts_once(tmp_path: Path, make_part: MakePart) -> None:
    line = " ".join(f"o{i}" for i in range(13))
    part = make_part("a", [f"{line}\n{' '.join(f'w{i}' for i in range(86))}"])  # with the answer 100 words, 88 n-grams
    sets = evaluation(tmp_path, [line, "five words that are short"])
    assert found([part], sets, min_share=1 / 88 - 1e-9)[0] == [True]
    assert found([part], sets, min_share=1 / 88)[0] == [False]


def test_counts_are_by_set_and_source(tmp_path: Path, make_part: MakePart) -> None:
    other = " ".join(f"o{i}" for i in range(15))
    parts = [
        make_part("a", [QUESTION, other, "clean"] + [f"{QUESTION} {i}" for i in range(4)]),
        make_part("b", [f"{QUESTION} {other}"], role="replay"),
        make_part("r", [QUESTION], role="reference"),
        make_part("v", [QUESTION], role="validation"),
    ]
    sets = [evaluation(tmp_path, [QUESTION], name="one"), evaluation(tmp_path, [{"t": other}], name="two")]
    mask, report = found(parts, *sets)
    assert mask == [True, True, False, True, True, True, True, True, False, False], (
        "references and measured rows are not looked at"
    )
    rows = {name: {source: told["rows"] for source, told in each["sources"].items()} for name, each in report.items()}
    assert rows == {"one": {"a": 5, "b": 1}, "two": {"a": 1, "b": 1}}
    assert [each["row"] for each in report["one"]["sources"]["a"]["examples"]] == [0, 3, 4]


def test_only_rows_of_the_mask_are_looked_at(tmp_path: Path, make_part: MakePart) -> None:
    part = make_part("a", ["clean", QUESTION, "x", QUESTION + " again"])
    spec = Decontaminate(against=(evaluation(tmp_path, [QUESTION]),))
    result = find_contamination([part], spec=spec, among=np.array([True, False, False, True]))
    assert result.mask.tolist() == [False, False, False, True]
    assert result.report["eval"]["sources"]["a"]["examples"][0]["row"] == 3


def test_the_recipes_validation_is_a_set_of_its_own(make_part: MakePart) -> None:
    parts = [make_part("a", [f"{QUESTION} And why?"]), make_part("v", [QUESTION], role="validation")]
    result = find_contamination(parts, spec=Decontaminate(validation=True))
    assert result.mask.tolist() == [True, False]
    assert result.report["validation"]["sources"]["a"]["rows"] == 1


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from("abc"), max_size=8), max_size=6),
    known=st.lists(st.lists(st.sampled_from("abc"), max_size=7), max_size=3),
    n=st.integers(1, 4),
)
def test_what_is_found_is_what_stands_there(texts: list[list[str]], known: list[list[str]], n: int) -> None:
    spoken = [" ".join(each) for each in texts]
    grams = {tuple(each[i : i + n]) for each in known for i in range(len(each) - n + 1)}
    whole = {tuple(each) for each in known if 1 <= len(each) < n}
    held = Known.of([pl.Series([" ".join(each) for each in known], dtype=pl.String)], n=n, shortest=1)
    row, _ = held.find(Said(pl.Series(spoken, dtype=pl.String), n))
    expected = {
        i
        for i, each in enumerate(texts)
        if tuple(each) in whole or any(tuple(each[j : j + n]) in grams for j in range(len(each) - n + 1))
    }
    assert set(row.tolist()) == expected
    assert len(held.hashes) == len(grams | whole)


def test_a_hash_that_only_half_agrees_is_no_find() -> None:
    held = Known.of([pl.Series([QUESTION])], n=13, shortest=5)
    forged = Known(held.n, held.hashes, held.confirm + np.uint64(1), held.n_texts, held.too_short, held.has_short)
    assert len(held.find(Said(pl.Series([QUESTION]), 13))[0])
    assert not len(forged.find(Said(pl.Series([QUESTION]), 13))[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"against: no evaluation sets"),
        (
            {"against": [{"name": "x", "path": "a"}, {"name": "x", "path": "b"}]},
            r"against: two evaluation sets share a name; got x",
        ),
        ({"against": [{"name": "validation", "path": "a"}], "validation": True}, r"share a name; got validation"),
        ({"validation": True, "ngrams": 8}, r"ngrams: unknown field of Decontaminate; did you mean 'ngram'"),
        ({"validation": True, "action": "delete"}, r"action: "),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Decontaminate(**fields)


def test_a_set_that_is_not_there(tmp_path: Path, make_part: MakePart) -> None:
    with pytest.raises(SourceError, match=r"no such file"):
        found([make_part("a", ["x"])], {"name": "gone", "path": str(tmp_path / "gone.jsonl")})


@pytest.mark.skipif(not DATA.exists(), reason="shared/data is absent")
def test_planted_test_questions_in_real_rows(make_part: MakePart) -> None:
    path = DATA / "tasks/math_word_problems.parquet"
    frame = pl.read_parquet(path)
    test, train = (frame.filter(pl.col("split") == split)["input"].to_list() for split in ("test", "train"))
    law = pl.read_parquet(DATA / "domains/law.parquet")["instruction"].head(300).to_list()
    at = rng(0, "tests", "plant").choice(300, 40, replace=False)
    for place, question in zip(at.tolist(), test[:40], strict=True):
        law[place] = f"Before we begin, note this: {question.upper()} That was it."
    sets = {"name": "gsm", "path": str(path), "where": {"split": "test"}, "only": ["input"]}
    mask, report = found([make_part("law", law), make_part("math", train)], sets)
    long = {p for p, q in zip(at.tolist(), test[:40], strict=True) if len(words(pl.Series([q]), symbols=False)[0]) >= 13}
    assert len(long) >= 35
    assert set(np.flatnonzero(mask[:300]).tolist()) == long
    assert report["gsm"]["sources"]["law"]["rows"] == len(long)
    assert sum(mask[300:]) <= 0.02 * len(train), "real test questions are not in real training rows"
