"""A model is asked once for every distinct text, again where its answer is invalid, and nothing it does is lost in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer.errors import ModelError, SpecError
from probes.tags.answer import schema
from probes.tags.llm import ANSWER, Llm

TEXTS = ["Sort the list.", "Translate: 你好", "Summarise this."]
Make = Callable[..., Llm]
Calls = Callable[[], list[dict[str, Any]]]


def listed(*tags: str) -> str:
    return json.dumps([{"tag": tag, "explanation": "e"} for tag in tags])


def by_words(request: str, call: int) -> str:  # noqa: ARG001
    return listed(*request.split())


def test_every_distinct_text_is_asked_about_once_and_greedily(scripted: Make, calls: Calls) -> None:
    tags = scripted(by_words).tag([*TEXTS, *TEXTS[::-1], "", " ?! "])
    assert tags[:3] == [("sort", "the", "list"), ("translate", "你好"), ("summarise", "this")]
    assert tags[3:] == [*tags[2::-1], (), ()]
    [call] = calls()
    assert call["requests"] == sorted(TEXTS)
    assert call["temperature"] == 0
    assert "schema" not in call


def test_an_invalid_answer_is_asked_for_again_with_another_seed(scripted: Make, calls: Calls) -> None:
    def third_time(request: str, call: int) -> str:
        return "Well ..." if "list" in request and call < 3 else listed("fine")

    assert scripted(third_time, retries=2).tag(TEXTS) == [("fine",)] * 3
    assert [call["requests"] for call in calls()] == [sorted(TEXTS), ["Sort the list."], ["Sort the list."]]
    assert [call["temperature"] for call in calls()] == [0, 0.7, 0.7]
    assert len({call["seed"] for call in calls()}) == 3


def test_what_was_invalid_is_counted_told_and_kept(scripted: Make, said: list[str], tmp_path: Path) -> None:
    script = {"Sort the list.": "no", "Translate: 你好": '[{"tag": "a"}, {"tag', "Summarise this.": listed("b")}
    tagger = scripted(lambda request, _: script.get(request, listed("c")), retries=1, max_chars=20)
    tags = tagger.tag([*TEXTS, "?", "long " * 10, TEXTS[0]], folder=tmp_path)
    assert tags == [(), ("a",), ("b",), (), ("c",), ()]
    counts = {
        "texts": 5, "not_asked": 1, "cut": 1, "answers": 5, "invalid": 2, "read_in_part": 1, "untagged": 1,
    }  # fmt: skip
    assert json.loads((tmp_path / "answers.json").read_text()) == counts
    assert said == [
        "tags: 5 texts, 1 not asked, 1 cut, 5 answers, 2 invalid, 1 read in part, 1 untagged"
    ]  # fmt: skip
    answers = pl.read_parquet(tmp_path / "answers.parquet")
    assert answers.schema == pl.Schema(ANSWER)
    assert answers.filter(pl.col("text") == "Sort the list.").rows() == [
        ("Sort the list.", 0, "no"),
        ("Sort the list.", 1, "no"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.json", "answers.parquet", "pool.parquet"]


def test_without_retries_a_text_is_asked_about_once(scripted: Make, calls: Calls) -> None:
    assert scripted(lambda *_: "no", retries=0).tag(TEXTS) == [()] * 3
    assert len(calls()) == 1


def test_a_session_that_can_is_held_to_the_schema(scripted: Make, calls: Calls) -> None:
    scripted(by_words, structured=True, max_tags=3).tag(TEXTS)
    assert calls()[0]["schema"] == schema(max_tags=3)


def test_tags_are_bounded_normal_and_distinct(scripted: Make) -> None:
    answer = listed("Sorting!", "sorting", "#12", "Ünïcode-Tag", "数学", "e", "f")
    assert scripted(lambda *_: answer, max_tags=5).tag(["x"]) == [("sorting", "12", "ünïcode tag", "数学")]


def test_a_long_text_is_cut_before_it_is_asked_about(scripted: Make, calls: Calls) -> None:
    scripted(by_words, max_chars=4).tag(["abcdefgh"])
    assert calls()[0]["requests"] == ["abcd"]


def test_nothing_to_ask_opens_no_model(tmp_path: Path) -> None:
    tagger = Llm(model="/no/such/model")
    assert tagger.tag(["", "?!"], folder=tmp_path) == [(), ()]
    assert json.loads((tmp_path / "answers.json").read_text())["not_asked"] == 2
    with pytest.raises(ModelError, match="no such model folder"):
        tagger.tag(["a text"])


def test_an_interrupted_run_asks_only_for_the_rest(
    scripted: Make, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.tags.llm._SHARD", 2)
    texts = [f"text {i}" for i in range(5)]

    def dies(request: str, call: int) -> str:
        if call == 2:
            raise ConnectionError
        return by_words(request, call)

    with pytest.raises(ConnectionError):
        scripted(dies).tag(texts, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".shards"]
    resumed = scripted(by_words)
    tags = resumed.tag(texts, folder=tmp_path)
    assert [call["requests"] for call in calls()] == [texts[2:4], texts[4:]]
    shutil.copytree(tmp_path, tmp_path.with_name("first"))
    (tmp_path / "answers.parquet").unlink()
    assert scripted(by_words).tag(texts, folder=tmp_path) == tags == scripted(by_words).tag(texts)
    whole, pieces = (folder / "answers.parquet" for folder in (tmp_path, tmp_path.with_name("first")))
    assert whole.read_bytes() == pieces.read_bytes()


def test_a_real_model_without_a_sense_of_json_leaves_no_tags(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")  # rotary positions: the weights serve for any length
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    tagger = Llm(model=str(folder), max_new_tokens=4, retries=1)
    assert tagger.tag(TEXTS[:1], folder=tmp_path) == [()]
    answers = pl.read_parquet(tmp_path / "answers.parquet")
    assert answers["attempt"].to_list() == [0, 1]
    assert answers["answer"].n_unique() == 2
    assert tagger.tag(TEXTS[:1]) == [()]


def test_what_changes_the_tags_bears_identity() -> None:
    tagger = Llm(model="m", engine={"name": "hf", "batch_tokens": 7})
    assert tagger.identity() == {
        "name": "llm", "lemmas": [], "merge": None, "engine": {"name": "hf"}, "model": "m", "max_tags": 5,
        "max_new_tokens": 512, "max_chars": 4000, "retries": 2, "temperature": 0.7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({}, "model: missing field of Llm"),
        ({"model": "m", "engine": "hff"}, "engine.name: unknown engine 'hff'"),
        ({"model": "m", "retries": -1}, "retries: input should be greater than or equal to 0"),
        ({"model": "m", "max_tags": 0}, "max_tags: input should be greater than or equal to 1"),
        ({"model": "m", "temperature": 0}, "temperature: input should be greater than 0"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        Llm(**fields)
