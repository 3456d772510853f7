"""Every row of a batch has one outcome, in order, and the outcome of a row does not depend on how batches are cut."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.ingest.files import Broken
from composer.ingest.outcomes import outcomes
from composer.types import Source


def judge(
    tokenizer: Any, rows: list[Any], *, kept: frozenset[str] = frozenset(), max_length: int = 64, **fields: Any
) -> pl.DataFrame:
    source = Source(name="s", path="p", domain="d", **fields)
    return outcomes(list(enumerate(rows)), source=source, kept=kept, tokenizer=tokenizer, max_length=max_length)


@settings(max_examples=25, deadline=None)
@given(words=st.lists(st.sampled_from(["", "a", "b", "c", "d"]), max_size=12), cut=st.integers(0, 12))
def test_batches_may_be_cut_anywhere(tokenizer: Any, words: list[str], cut: int) -> None:
    rows = [{"text": word} for word in words]
    whole = judge(tokenizer, rows)
    head = judge(tokenizer, rows[:cut])
    tail = judge(tokenizer, rows[cut:], kept=frozenset(head["sample_id"].drop_nulls()))
    assert whole["row"].to_list() == list(range(len(rows)))
    assert pl.concat([head, tail]).drop("row").equals(whole.drop("row"))


def test_truncation_is_told_at_the_border(tokenizer: Any) -> None:
    row = [{"text": "the river"}]
    n = judge(tokenizer, row)["n_tokens"][0]
    seen = {length: judge(tokenizer, row, max_length=length).row(0, named=True) for length in (n, n - 1, 1)}
    assert [(seen[k]["n_tokens"], seen[k]["truncated"]) for k in (n, n - 1)] == [(n, False), (n - 1, True)]
    assert seen[1]["reason"] == "no_loss_tokens"


def test_an_answer_that_begins_where_the_cut_is_trains_nothing(tokenizer: Any) -> None:
    row = [{"prompt": "the river", "completion": "flows"}]
    whole = judge(tokenizer, row).row(0, named=True)
    n_prompt = whole["n_tokens"] - whole["n_loss_tokens"]
    assert judge(tokenizer, row, max_length=n_prompt - 1)["reason"][0] == "no_loss_tokens"
    assert judge(tokenizer, row, max_length=n_prompt + 1)["n_loss_tokens"][0] >= 1


def test_a_refusal_of_the_template_is_a_reason(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + tokenizer.chat_template
    monkeypatch.setattr(tokenizer, "chat_template", strict)
    rows = [{"instruction": "Say.", "output": "Yes.", "system": system} for system in ("Be brief.", None)]
    assert judge(tokenizer, rows)["reason"].to_list() == ["template_refuses", None]


def test_licenses_come_from_the_row_or_the_source(tokenizer: Any) -> None:
    words = ["MIT", None, 3, " ", "caf\udce9"]
    rows = [{"text": f"t{i}", "license": word} for i, word in enumerate(words)] + [{"text": "no license"}]
    from_row = judge(tokenizer, rows, license="from_row")["license"].to_list()
    assert from_row == ["MIT", "unknown", "unknown", "unknown", "caf?", "unknown"]
    assert set(judge(tokenizer, rows, license="CC0-1.0")["license"]) == {"CC0-1.0"}


def test_what_a_dropped_row_shows_can_be_written(tokenizer: Any) -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    rows = [Broken("invalid_json", "\udce9" + "x" * 900), {"b": b"\x00"}, {"a": deep}, {("no", "key"): 1}, None]
    told = judge(tokenizer, rows)
    assert told["reason"].to_list() == ["invalid_json", *["unknown_shape"] * 3, "not_an_object"]
    assert told["text"].to_list() == ["?" + "x" * 499, '{"b": "b\'\\\\x00\'"}', "", "", "null"]
