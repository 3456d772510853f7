"""Bits per byte are what the law says, whatever the order, the windows and the cuts; shares say how easy a domain is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from composer.errors import ModelError, SourceError, SpecError
from composer.tables import read
from composer.types import KnowledgeDistribution, ModelRef
from probes.engines import Session
from probes.engines.hf import Hf
from probes.knowledge.perplexity import TEXT, Perplexity
from tests.probes.knowledge.reading import Law, Reading, byte_tokenizer, halves

DOMAINS = ("law", "medicine", "code")
LETTER = {"law": "a", "medicine": "b", "code": "c"}
BITS = {"a": 1, "b": 2, "c": 4}


def by_letter(_before: Sequence[str], word: str) -> float:
    return 0.5 ** BITS.get(word, 3)


def frame(texts: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    rows = [(domain, text) for domain, own in texts.items() for text in own]
    return pl.DataFrame(rows, schema=["domain", "text"], orient="row")


@pytest.fixture
def reference() -> pl.DataFrame:
    return frame({domain: [letter * n for n in range(1, 9)] for domain, letter in LETTER.items()})


def measure(session: Session, reference: pl.DataFrame, folder: Path, *, seed: int = 0, **fields: Any) -> KnowledgeDistribution:
    folder.mkdir(exist_ok=True)
    return Perplexity(**fields).measure(session, domains=DOMAINS, reference=reference, seed=seed, folder=folder)


def bits_of(folder: Path) -> dict[str, dict[str, Any]]:
    return dict(json.loads((folder / "bits.json").read_text())["domains"])


def test_the_bits_and_the_shares_are_those_of_the_law(reference: pl.DataFrame, tmp_path: Path) -> None:
    found = measure(Reading(by_letter), reference, tmp_path)
    bits = bits_of(tmp_path)
    assert [bits[domain]["bits_per_byte"] for domain in DOMAINS] == pytest.approx([1, 2, 4], abs=1e-12)
    assert [bits[domain]["bits"] for domain in DOMAINS] == pytest.approx([36, 72, 144])
    assert {(each["bytes"], each["tokens"], each["texts"], each["cut"]) for each in bits.values()} == {(36, 36, 8, 0)}
    assert found.p == pytest.approx((4 / 7, 2 / 7, 1 / 7), abs=1e-12)
    assert found.stderr == pytest.approx((0, 0, 0), abs=1e-12)  # a byte costs the same in every text
    assert (found.n, found.rejected, found.accuracy, found.probe) == (24, 0, None, "perplexity")


def test_a_token_of_several_bytes_costs_once(tmp_path: Path) -> None:
    reference = frame({domain: ["ab" * n for n in range(1, 7)] for domain in DOMAINS})
    measure(Reading(halves, byte_tokenizer("a b")), reference, tmp_path)
    assert [each["bits_per_byte"] for each in bits_of(tmp_path).values()] == pytest.approx([0.5] * 3)


def test_bits_add_up_over_joined_texts(tmp_path: Path) -> None:
    single = [letter * n for letter in "abc" for n in (1, 2, 3)]
    joined = ["".join(single[i:] + single[:i]) for i in range(6)]
    measure(Reading(by_letter), frame({"law": joined, "medicine": joined, "code": joined}), tmp_path / "joined", max_tokens=18)
    rows = read(tmp_path / "joined" / "texts.parquet", TEXT)
    assert rows["bits"].to_list() == pytest.approx([6 * 1 + 6 * 2 + 6 * 4] * 18)


def test_the_interval_is_that_of_a_ratio_over_texts(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    texts = ["".join(random.choice(list("abc"), size=20)) for _ in range(200)]
    found = measure(Reading(by_letter), frame(dict.fromkeys(DOMAINS, texts)), tmp_path)
    per_text = np.array([sum(BITS[letter] for letter in text) / 20 for text in texts])
    law = bits_of(tmp_path)["law"]
    assert law["bits_per_byte"] == pytest.approx(per_text.mean())
    assert law["stderr"] == pytest.approx(per_text.std(ddof=1) / np.sqrt(200), rel=0.1)
    assert (law["high"] - law["low"]) / law["stderr"] == pytest.approx(2 * 1.96, rel=0.1)
    assert found.p == pytest.approx([1 / 3] * 3)
    assert all(low < 1 / 3 < high for low, high in zip(found.low, found.high, strict=True))
    # three equal and independent domains: d p / p = -(2/3, -1/3, -1/3) of d b / b
    assert found.stderr == pytest.approx([law["stderr"] / law["bits_per_byte"] / 3 * np.sqrt(2 / 3)] * 3, rel=0.15)


def test_neither_order_nor_copies_matter(reference: pl.DataFrame, tmp_path: Path) -> None:
    other = pl.concat([reference, reference[3:5]]).sample(fraction=1, shuffle=True, seed=4)
    one = measure(Reading(by_letter), reference, tmp_path / "one", max_texts=5)
    assert measure(Reading(by_letter), other, tmp_path / "other", max_texts=5) == one
    assert (tmp_path / "one/texts.parquet").read_bytes() == (tmp_path / "other/texts.parquet").read_bytes()
    assert bits_of(tmp_path / "other")["law"]["left_out"] == {"copies": 2, "empty": 0, "not_drawn": 3, "without_tokens": 0}


def test_the_order_of_the_domains_does_not_matter(reference: pl.DataFrame, tmp_path: Path) -> None:
    one = measure(Reading(by_letter), reference, tmp_path)
    back = Perplexity().measure(Reading(by_letter), domains=DOMAINS[::-1], reference=reference, seed=0, folder=tmp_path)
    assert (back.p[::-1], back.low[::-1]) == (pytest.approx(one.p), pytest.approx(one.low))


def test_the_seed_draws_the_texts(reference: pl.DataFrame, tmp_path: Path) -> None:
    drawn = []
    for seed in (1, 1, 2):
        measure(Reading(by_letter), reference, tmp_path, seed=seed, max_texts=5)
        drawn.append(read(tmp_path / "texts.parquet", TEXT)["text_id"].to_list())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("most", "n_tokens", "n_bytes"), [(1, 1, 1), (2, 1, 1), (3, 3, 3), (5, 3, 3), (6, 6, 6), (99, 7, 7)])
def test_a_cut_splits_no_character(most: int, n_tokens: int, n_bytes: int, tmp_path: Path) -> None:
    reference = frame({domain: [f"{i}é€{domain[0]}" for i in range(5)] for domain in DOMAINS})
    measure(Reading(halves), reference, tmp_path, max_tokens=most)
    rows = read(tmp_path / "texts.parquet", TEXT)
    assert set(rows.select("n_tokens", "n_bytes", "bits", "cut").rows()) == {(n_tokens, n_bytes, float(n_tokens), most < 7)}


def test_a_text_without_a_whole_character_is_told(tmp_path: Path) -> None:
    reference = frame({domain: [*"abcde", "é"] for domain in DOMAINS})
    found = measure(Reading(halves), reference, tmp_path, max_tokens=1)
    assert (found.n, found.rejected) == (15, 3)
    assert bits_of(tmp_path)["law"]["left_out"]["without_tokens"] == 1


def test_empty_texts_are_counted(reference: pl.DataFrame, tmp_path: Path) -> None:
    empty = frame({"law": ["", " \n"], "code": [""]})
    found = measure(Reading(by_letter), pl.concat([reference, empty]), tmp_path / "some")
    assert (found.n, found.rejected) == (24, 3)
    assert found.p == measure(Reading(by_letter), reference, tmp_path / "none").p


@pytest.mark.parametrize("bos", [True, False])
def test_the_first_token_is_judged_after_the_token_that_begins_a_text(
    bos: bool, reference: pl.DataFrame, tmp_path: Path
) -> None:
    session = Reading(by_letter, byte_tokenizer(bos=bos))
    measure(session, reference, tmp_path)
    assert {ids[0] for ids in session.shown} == {0 if bos else 1}
    assert min(map(len, session.shown)) == 2
    assert json.loads((tmp_path / "bits.json").read_text())["begun_with"] == ("bos_token <s>" if bos else "eos_token </s>")


def test_a_model_of_few_positions_reads_in_windows(reference: pl.DataFrame, tmp_path: Path) -> None:
    session = Reading(by_letter, byte_tokenizer(positions=4))
    found = measure(session, reference, tmp_path)
    assert max(map(len, session.shown)) == 4
    assert found.p == pytest.approx((4 / 7, 2 / 7, 1 / 7))


def test_the_plan_is_what_is_shown(reference: pl.DataFrame, tmp_path: Path) -> None:
    session, probe = Reading(by_letter), Perplexity(max_texts=6, max_tokens=7, window=5, overlap=2)
    counts = probe.plan(domains=DOMAINS, reference=reference, tokenizer=session.tokenizer, seed=3)
    assert session.shown == []
    probe.measure(session, domains=DOMAINS, reference=reference, seed=3, folder=tmp_path)
    assert (counts.generations, counts.prompt_tokens, counts.output_tokens) == (0, session.n_shown, 0)


def test_the_record_lies_in_the_folder(reference: pl.DataFrame, tmp_path: Path) -> None:
    found = measure(Reading(by_letter), reference, tmp_path)
    assert KnowledgeDistribution(**json.loads((tmp_path / "knowledge.json").read_text())) == found
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bits.json",
        "knowledge.json",
        "resamples.parquet",
        "texts.parquet",
    ]


def test_what_cannot_be_measured_is_refused(reference: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="reference texts of an unknown domain; expected law, medicine, code; got art"):
        measure(Reading(halves), pl.concat([reference, frame({"art": ["a"]})]), tmp_path)
    with pytest.raises(SourceError, match="domain code: too few reference texts; expected at least 5 distinct ones; got 0"):
        measure(Reading(halves), reference.filter(pl.col("domain") != "code"), tmp_path)
    with pytest.raises(ModelError, match="neither a beginning-of-text nor an end-of-text"):
        measure(Reading(halves, byte_tokenizer(bos=False, eos=False)), reference, tmp_path)
    with pytest.raises(ModelError, match="holds a text for impossible"):
        measure(Reading(lambda _, word: float(word != "c")), reference, tmp_path)
    with pytest.raises(SpecError, match="overlap: windows overlap too much; expected at most half a window; got 9"):
        Perplexity(window=16, overlap=9)


def test_a_text_that_costs_nothing_takes_the_share(reference: pl.DataFrame, tmp_path: Path) -> None:
    certain: Law = lambda _, word: 1.0 if word == "a" else 0.5  # noqa: E731
    assert measure(Reading(certain), reference, tmp_path).p == pytest.approx((1, 0, 0), abs=1e-9)


def test_a_model_finds_the_texts_of_its_own_domain_easier(tmp_path: Path) -> None:
    from composer.train import Base, pretrain

    random = np.random.default_rng(0)
    words = {"law": "court judge clause verdict", "medicine": "patient dose fever nurse", "code": "function loop array string"}
    texts = {domain: [" ".join(random.choice(own.split(), size=8)) for _ in range(260)] for domain, own in words.items()}
    held_out = frame({domain: own[200:] for domain, own in texts.items()})
    found = {}
    for own in ("law", "code"):  # two models, so that how easy a domain is by itself does not decide
        weights = {domain: 8.0 if domain == own else 1.0 for domain in DOMAINS}
        spec = Base(weights=weights, documents=240, hidden=64, heads=2, layers=1, vocab=400, intermediate=64, context=32,
                    threads=1)  # fmt: skip
        pretrain({domain: given[:200] for domain, given in texts.items()}, spec=spec, seed=1, folder=tmp_path / own)
        with Hf().open(ModelRef(path=str(tmp_path / own / "model"))) as session:
            found[own] = measure(session, held_out, tmp_path / f"{own}-probe")
    law, code = (bits_of(tmp_path / f"{own}-probe") for own in found)
    assert law["law"]["high"] < code["law"]["low"]
    assert code["code"]["high"] < law["code"]["low"]
    assert found["law"].low[0] > found["code"].high[0]
    assert found["code"].low[2] > found["law"].high[2]
