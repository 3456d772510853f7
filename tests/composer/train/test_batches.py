"""Rows become steps, with every token accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.conversation import extras_of
from composer.encode import Encoding, load_tokenizer
from composer.errors import FaultError, InputError
from composer.ingest import ingest
from composer.ingest.counting import count
from composer.tables import DROPPED, SAMPLE, read
from composer.train import batches
from composer.train.batches import Reader, Row, Supply, steps
from composer.train.layout import IGNORED, padded
from composer.types import LossOn, ModelRef, Source

Composed = Callable[[pl.DataFrame], pl.DataFrame]


def rows(composition: pl.DataFrame, samples: pl.DataFrame, **how: Any) -> tuple[list[Row], list[str]]:
    reader = Reader(composition, samples, **how)
    return reader.read(range(composition.height)), reader.domains


def items(domains: list[int]) -> list[Row]:
    return [Row.of(str(i), domain, Encoding((7, 8, 9), (True, False, True))) for i, domain in enumerate(domains)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 7), st.sampled_from(["mixed", "domain"]))
def test_every_row_is_in_one_batch(domains: list[int], size: int, kind: str) -> None:
    plan = steps(items(domains), size=size, batches=kind)  # type: ignore[arg-type]
    assert sorted(int(row.sample_id) for batch in plan for row in batch) == list(range(len(domains)))
    assert all(1 <= len(batch) <= size for batch in plan)
    for domain in set(domains):  # within a domain the order stays
        ids = [int(row.sample_id) for batch in plan for row in batch if row.domain == domain]
        assert ids == sorted(ids)
    if kind == "domain":
        assert all(len({row.domain for row in batch}) == 1 for batch in plan)
        assert sum(len(batch) < size for batch in plan) <= len(set(domains))
    else:
        assert [row.sample_id for batch in plan for row in batch] == [str(i) for i in range(len(domains))]


def test_domain_batches_keep_shares_over_time() -> None:
    plan = steps(items([0, 1] * 20 + [0, 0, 0, 1] * 20), size=5, batches="domain")
    begin, end = plan[: len(plan) // 2], plan[len(plan) // 2 :]
    shares = [sum(len(b) for b in part if b[0].domain) / sum(map(len, part)) for part in (begin, end)]
    assert shares[0] > shares[1] + 0.1


def test_one_domain_makes_both_ways_the_same() -> None:
    own = items([0] * 11)
    assert steps(own, size=4, batches="domain") == steps(own, size=4, batches="mixed")


def test_rows_follow_the_composition(samples: pl.DataFrame, composed: Composed, base: ModelRef) -> None:
    chosen = samples.sample(20, seed=3, shuffle=True)
    twice = pl.concat([chosen, chosen.head(4)])
    out, domains = rows(composed(twice), samples, tokenizer=load_tokenizer(base.path), max_length=64)
    assert [row.sample_id for row in out] == twice["sample_id"].to_list()
    assert [domains[row.domain] for row in out] == twice["domain"].to_list()
    assert [row.n_loss_tokens for row in out] == twice["n_loss_tokens"].to_list()


def test_extras_are_trained_on(samples: pl.DataFrame, composed: Composed, base: ModelRef) -> None:
    tokenizer = load_tokenizer(base.path, chat_template="plain")
    extras = extras_of({1: {"thinking": "Hm, 7 times."}}, None)
    thoughtful = samples.head(1).with_columns(extras=pl.lit(extras))
    counted = thoughtful.drop("n_tokens", "n_loss_tokens").with_columns(
        count(tokenizer, thoughtful, max_length=256).select("n_tokens", "n_loss_tokens")
    )
    out, _ = rows(composed(counted), thoughtful, tokenizer=tokenizer, max_length=256)
    [row] = out
    assert "Hm, 7 times." in tokenizer.decode(row.ids[row.trained])
    plain = count(tokenizer, samples.head(1), max_length=256)["n_loss_tokens"][0]
    assert row.n_loss_tokens > plain


def test_a_count_that_differs_names_the_sample(samples: pl.DataFrame, composed: Composed, base: ModelRef) -> None:
    wrong = composed(samples).with_columns(pl.col("n_loss_tokens") + (pl.col("position") == 5).cast(pl.UInt32))
    name = samples["sample_id"][5]
    with pytest.raises(FaultError, match=f"sample {name}: trained tokens differ; expected [0-9]+; got [0-9]+; the samples"):
        rows(wrong, samples, tokenizer=load_tokenizer(base.path), max_length=64)


def test_another_length_is_noticed(samples: pl.DataFrame, composed: Composed, base: ModelRef) -> None:
    shorter = int(samples["n_tokens"].to_numpy().max()) - 1
    with pytest.raises(FaultError, match="trained tokens differ"):
        rows(composed(samples), samples, tokenizer=load_tokenizer(base.path), max_length=shorter)


@pytest.mark.parametrize("loss_on", ["all", "last"])
def test_what_ingest_counted_is_what_is_trained_on(loss_on: LossOn, composed: Composed, base: ModelRef, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(base.path)
    talks = [["The court?", "It rules.", "And then?", "It rests. " * i] for i in range(1, 9)]
    lines = [json.dumps({"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(talk)]})
             for talk in [*talks, ["The court?", "It rules.", "And " + "then " * 60, "It rests."]]]  # fmt: skip
    (tmp_path / "law.jsonl").write_text("\n".join(lines))
    source = Source(name="law", path=str(tmp_path / "law.jsonl"), domain="law")
    stats = ingest(source, tmp_path, tokenizer=tokenizer, max_length=80, loss_on=loss_on)
    counted = read(tmp_path / "samples.parquet", SAMPLE)
    out, _ = rows(composed(counted), counted, tokenizer=tokenizer, max_length=80, loss_on=loss_on)
    assert [row.n_loss_tokens for row in out] == counted["n_loss_tokens"].to_list()
    assert sum(int((padded([row])["labels"] != IGNORED).sum()) for row in out) == stats["n_loss_tokens"]
    assert stats["dropped"] == ({} if loss_on == "all" else {"no_loss_tokens": 1})
    dropped = read(tmp_path / "dropped.parquet", DROPPED)
    assert dropped.select("row", "reason").rows() == ([] if loss_on == "all" else [(8, "no_loss_tokens")])
    other: LossOn = "last" if loss_on == "all" else "all"
    with pytest.raises(FaultError, match=r"trained tokens differ; .* chat template, max_length or loss_on"):
        rows(composed(counted), counted, tokenizer=tokenizer, max_length=80, loss_on=other)


@pytest.mark.parametrize(("n", "more"), [(1, ""), (5, ""), (7, " and 2 more")])
def test_rows_without_a_trained_token_are_refused_by_name(
    n: int, more: str, samples: pl.DataFrame, composed: Composed, base: ModelRef
) -> None:
    none = pl.when(pl.col("position") % 2 == 1, pl.col("position") < 2 * n).then(0).otherwise("n_loss_tokens")
    made = composed(samples).with_columns(none.cast(pl.UInt32).alias("n_loss_tokens"))
    twice = pl.concat([made, made])
    names = ", ".join(samples["sample_id"].gather_every(2, 1).head(min(n, 5)))
    told = (
        f"^composition: rows without a trained token; expected at least one in each row; got none in {names}{more}; leave these"
    )
    with pytest.raises(InputError, match=told):
        rows(twice, samples, tokenizer=load_tokenizer(base.path), max_length=64)


def test_a_sample_that_cannot_be_encoded_is_named(samples: pl.DataFrame, composed: Composed, base: ModelRef) -> None:
    with pytest.raises(FaultError, match=f"sample {samples['sample_id'][0]}: cannot be trained on: no_loss_tokens"):
        rows(composed(samples), samples, tokenizer=load_tokenizer(base.path), max_length=3)


def test_a_row_without_a_sample_is_named(samples: pl.DataFrame, composed: Composed, base: ModelRef) -> None:
    with pytest.raises(FaultError, match=f"no sample; got {samples['sample_id'][0]}"):
        rows(composed(samples), samples.slice(1), tokenizer=load_tokenizer(base.path), max_length=64)


def test_an_empty_composition(samples: pl.DataFrame, composed: Composed, base: ModelRef) -> None:
    with pytest.raises(InputError, match="the composition has no rows"):
        rows(composed(samples.clear()), samples, tokenizer=load_tokenizer(base.path), max_length=64)


def test_rows_in_reserve_are_read_when_they_are_reached(
    samples: pl.DataFrame, composed: Composed, base: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "CHUNK", 4)
    reader, asked = Reader(composed(samples), samples, tokenizer=load_tokenizer(base.path), max_length=64), list[list[int]]()
    whole, read_now = reader.read(range(samples.height)), reader.read

    def noted(places: Sequence[int], *, shown: bool = True) -> list[Row]:
        asked.append(list(places))
        return read_now(places, shown=shown)

    monkeypatch.setattr(reader, "read", noted)
    supply = Supply(whole[:3], range(10, 20), reader)
    expected = [*whole[:3], *whole[10:20]]
    assert (len(supply), asked) == (13, [])
    got = [*supply[0:2], *supply[2:5], *supply[5:13]]
    assert [row.sample_id for row in got] == [row.sample_id for row in expected]
    assert all((mine.ids == theirs.ids).all() for mine, theirs in zip(got, expected, strict=True))
    assert asked == [[10, 11, 12, 13], [14, 15, 16, 17], [18, 19]]
    assert supply[-1].sample_id == expected[-1].sample_id
    assert Supply(whole[:3], range(10, 20), reader)[7].sample_id == expected[7].sample_id  # taken up in the middle
    with pytest.raises(IndexError):
        supply[13]
