"""The right answer against wrong ones: judged alike whatever the tokens, and reported against chance."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from composer.errors import InputError, ModelError, SourceError
from composer.tables import read
from composer.types import KnowledgeDistribution
from probes.engines import Session
from probes.knowledge.cloze import FACT, Cloze, border
from probes.knowledge.facts import Question, questions_of, read_facts
from probes.knowledge.likelihood import tokenise
from tests.probes.knowledge.reading import Law, Reading, byte_tokenizer, halves

DOMAINS = ("law", "medicine")
NO_ROWS = pl.DataFrame(schema={"domain": pl.String, "text": pl.String})


def knows(*right: str) -> Law:
    """A law under which the letters of the right answers are likely."""

    def law(_before: Sequence[str], word: str) -> float:
        return 0.5 if word in "".join(right) else 0.125

    return law


def fact(domain: str, i: int, answer: str, *wrong: str) -> dict[str, Any]:
    return {"domain": domain, "prompt": f"{domain} {i}:", "answer": answer, "distractors": list(wrong)}


def written(path: Path, rows: Sequence[Any]) -> Cloze:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return Cloze(facts=path.name).placed(path.parent.joinpath)


def measure(probe: Cloze, session: Session, folder: Path, *, reference: pl.DataFrame = NO_ROWS) -> KnowledgeDistribution:
    folder.mkdir(exist_ok=True)
    return probe.measure(session, domains=DOMAINS, reference=reference, seed=0, folder=folder)


def told(folder: Path) -> dict[str, dict[str, Any]]:
    return dict(json.loads((folder / "cloze.json").read_text())["domains"])


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Ten facts of law, eight of which end in the known letter; ten of medicine with more distractors, half of them known."""
    law = [fact("law", i, "x" if i < 8 else "z", "y") for i in range(10)]
    return law + [fact("medicine", i, "x" if i < 5 else "z", "v", "w", "x" if i >= 5 else "y") for i in range(10)]


def test_accuracy_chance_and_shares_are_those_of_the_law(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    found = measure(written(tmp_path / "facts.jsonl", rows), Reading(knows("x")), tmp_path / "out")
    law, medicine = (told(tmp_path / "out")[domain] for domain in DOMAINS)
    # where the right answer is z against y, neither is known and each counts half
    assert (law["accuracy"], law["chance"], law["facts"]) == (pytest.approx(0.9), 0.5, 10)
    assert (medicine["accuracy"], medicine["chance"]) == (pytest.approx(0.5), 0.25)
    assert (law["gain"], medicine["gain"]) == (pytest.approx(0.8), pytest.approx(1 / 3))
    assert found.p == pytest.approx((0.8 / (0.8 + 1 / 3), 1 / 3 / (0.8 + 1 / 3)))
    assert medicine["stderr"] == pytest.approx(np.sqrt(0.25 / 10) / 0.75, rel=0.1)
    assert (found.n, found.rejected, found.accuracy, found.probe) == (20, 0, None, "cloze")
    assert all(low < p < high for low, p, high in zip(found.low, found.p, found.high, strict=True))


def test_the_score_is_the_log_likelihood_of_the_answer_alone(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    measure(written(tmp_path / "facts.jsonl", rows), Reading(knows("x")), tmp_path / "out")
    table = read(tmp_path / "out" / "facts.parquet", FACT)
    first = table.row(0, named=True)
    assert (first["prompt"], first["candidates"], first["n_bytes"], first["n_shared"]) == ("law 0:", [" x", " y"], [2, 2], 0)
    assert first["nats"] == pytest.approx([np.log(0.125 * 0.5), np.log(0.125 * 0.125)])


def test_a_longer_answer_may_win_per_byte(tmp_path: Path) -> None:
    rows = [fact(domain, i, "xxxx", "y") for domain in DOMAINS for i in range(5)]
    law: Law = lambda _, word: 0.5 if word == "x" else 0.25  # noqa: E731
    probe = written(tmp_path / "facts.jsonl", rows).model_copy(update={"between": ""})
    with pytest.raises(ModelError, match=r"better than chance; .* got law 0\.000 \(chance 0\.500\), medicine 0\.000"):
        measure(probe, Reading(law), tmp_path / "sum")
    assert measure(probe.model_copy(update={"score": "byte"}), Reading(law), tmp_path / "byte").p == (0.5, 0.5)
    assert (told(tmp_path / "byte")["law"]["accuracy_sum"], told(tmp_path / "byte")["law"]["accuracy_byte"]) == (0, 1)


def test_a_token_across_the_border_counts_for_every_candidate(tmp_path: Path) -> None:
    # "ab" is rare and "abc" a word: the c alone is likely, though the token "bc" as a whole is not
    chance = {"bc": 0.009, "b": 0.01, "c": 0.9, "d": 0.1}
    rows = [{"domain": d, "prompt": f"{i}ab", "answer": "c", "distractors": ["d"]} for d in DOMAINS for i in range(5)]
    probe = written(tmp_path / "facts.jsonl", rows).model_copy(update={"between": ""})
    found = measure(probe, Reading(lambda _, word: chance.get(word, 0.5), byte_tokenizer("b c")), tmp_path / "out")
    assert found.p == (0.5, 0.5)
    first = read(tmp_path / "out" / "facts.parquet", FACT).row(0, named=True)
    assert (first["n_bytes"], first["n_shared"], first["sum"]) == ([2, 2], 1, 1)
    assert first["nats"] == pytest.approx([np.log(0.009), np.log(0.01 * 0.1)])
    assert told(tmp_path / "out")["law"]["sharing_prompt_bytes"] == 5


@pytest.mark.parametrize(
    ("merges", "prompt", "answers", "first"),
    [
        ((), "ab", ("c", "d"), 2),
        (("b c",), "ab", ("c", "d"), 1),
        (("a b", "b c"), "ab", ("c", "d"), 1),  # a and b are one token before c is met
        (("b c", "a bc"), "xab", ("c", "d"), 1),
        (("x c", "b x", "a b"), "abx", ("c", "d"), 0),  # ab xc, but a bx d: equal numbers of other tokens are no border
        ((), "ab", ("cd", "cc"), 2),  # what the candidates share is theirs
        ((), "ab", ("c", "cd"), 2),
        ((), "é", ("é", "è"), 2),
        (("© Ã",), "é", ("é", "x"), 0),  # a token of two halves: the border before the whole character
        ((), "", ("c", "d"), 0),
    ],
)
def test_candidates_are_judged_from_the_last_border_in_common(
    merges: tuple[str, ...], prompt: str, answers: tuple[str, ...], first: int
) -> None:
    found = tokenise(byte_tokenizer(*merges), [prompt + answer for answer in answers])
    assert border(found, len(prompt.encode())) == first


def test_neither_order_nor_copies_nor_the_format_matter(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    one = measure(written(tmp_path / "a.jsonl", rows), Reading(knows("x")), tmp_path / "one")
    other = measure(written(tmp_path / "b.jsonl", [*rows[::-1], rows[4]]), Reading(knows("x")), tmp_path / "other")
    pl.DataFrame(rows).write_parquet(tmp_path / "c.parquet")
    third = measure(Cloze(facts="c.parquet").placed(tmp_path.joinpath), Reading(knows("x")), tmp_path / "third")
    assert one == other == third
    assert (tmp_path / "one/facts.parquet").read_bytes() == (tmp_path / "other/facts.parquet").read_bytes()
    assert told(tmp_path / "other")["law"]["left_out"]["copies"] == 1


def test_at_chance_the_numbers_are_told(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"law 0\.500 \(chance 0\.500\), medicine 0\.250 \(chance 0\.250\); ask a larger model"
    ):
        measure(written(tmp_path / "facts.jsonl", rows), Reading(halves), tmp_path / "out")


def test_the_identity_of_the_facts_is_their_content(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    one, same = (written(tmp_path / name, rows) for name in ("a.jsonl", "b.jsonl"))
    other = written(tmp_path / "c.jsonl", rows[1:])
    assert one.facts != same.facts
    assert one.identity() == same.identity() != other.identity()
    assert "facts" not in one.identity()
    assert Cloze().placed(tmp_path.joinpath) == Cloze()


def test_facts_that_are_not_the_planned_ones_are_refused(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    probe = written(tmp_path / "facts.jsonl", rows)
    (tmp_path / "facts.jsonl").write_text("changed")
    with pytest.raises(InputError, match=r"facts\.jsonl: not the planned facts; expected .* plan again"):
        measure(probe, Reading(halves), tmp_path / "out")
    with pytest.raises(InputError, match=r"not the planned facts; expected None; .* call placed"):
        measure(Cloze(facts=str(tmp_path / "facts.jsonl")), Reading(halves), tmp_path / "out")
    (tmp_path / "facts.jsonl").unlink()
    with pytest.raises(InputError, match=r"not the planned facts; .* got no such file"):
        measure(probe, Reading(halves), tmp_path / "out")
    with pytest.raises(SourceError, match=r"probe\.facts: no such file"):
        probe.placed(tmp_path.joinpath)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "line 2: not JSON: .*; expected one fact on a line"),
        ("[1]", "line 2: not a fact; expected an object on every line; got list"),
        ('{"domain": "law", "prompt": "p", "answer": "a"}', "line 2: not a fact: distractors: missing field of Fact"),
        ('{"domain": "law", "prompt": "p", "answer": "a", "distractors": []}', "distractors: .*at least 1 item"),
        ('{"domain": "law", "prompt": "p", "answer": "a", "distractors": ["a"]}', "an answer is given twice"),
        ('{"domain": "law", "prompt": "p", "answer": " ", "distractors": ["a"]}', "must not be empty"),
        ('{"domain": "law", "prompt": "p", "answer": "a", "distractors": ["b"], "x": 1}', "x: unknown field of Fact"),
        ('{"domain": "art", "prompt": "p", "answer": "a", "distractors": ["b"]}', "unknown domain; .* got art"),
    ],
)
def test_a_row_that_is_no_fact_is_named(row: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(json.dumps(fact("law", 0, "x", "y")) + "\n" + row)
    with pytest.raises(SourceError, match=says):
        read_facts(path, domains=DOMAINS, between=" ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in ("facts.parquet", "facts.jsonl"):
        (tmp_path / name).write_bytes(b"\xff\xfe\xfa")
        with pytest.raises(SourceError, match=rf"{name}: no facts: .*; expected a JSON Lines or Parquet file"):
            read_facts(tmp_path / name, domains=DOMAINS, between=" ")


def reference(*, n: int = 12) -> pl.DataFrame:
    texts = [(domain, f"{domain}, case {i}?\n{'xyzuvw'[i % 6]}{domain[0]}") for domain in DOMAINS for i in range(n)]
    return pl.DataFrame(texts, schema=["domain", "text"], orient="row")


def remembers(before: Sequence[str], word: str) -> float:
    """The law under which the answer of every reference row is likely."""
    found = re.search(r"(\d+)\?Ċ$", "".join(before))
    return 0.5 if found and word == "xyzuvw"[int(found[1]) % 6] else 0.125


def test_reference_rows_become_questions() -> None:
    rows = ["Who?\nme", "Who?\nme ", "Who?\nyou", "Where?\nhere", "When? now", "\nlone", "Why?\n" + "so " * 30, ""]
    found, left = questions_of(rows, domain="law", most=9, max_answer=20, distractors=9, seed=0)
    assert {(each.prompt, each.candidates[0], frozenset(each.candidates[1:])) for each in found} == {
        ("Who?\n", "me", frozenset({"here"})),  # you is right as well
        ("Who?\n", "you", frozenset({"here"})),
        ("Where?\n", "here", frozenset({"me", "you"})),
    }
    assert left == {"no_answer": 3, "long_answer": 1, "copies": 1}
    assert questions_of(["a?\nb", "a?\nc"], domain="law", most=9, max_answer=9, distractors=1, seed=0) == (
        [], {"no_distractor": 2},
    )  # fmt: skip


def test_questions_follow_the_seed_and_not_the_order() -> None:
    rows = reference(n=40)["text"].to_list()

    def asked(rows: list[str], seed: int) -> list[Question]:
        return questions_of(rows, domain="law", most=20, max_answer=9, distractors=3, seed=seed)[0]

    assert asked(rows, 1) == asked(rows[::-1], 1) != asked(rows, 2)
    assert all(len(set(each.candidates)) == 4 for each in asked(rows, 1))
    positions = [each.candidates[1] for each in asked(rows, 1)]
    assert len(set(positions)) > 3  # the distractors differ from question to question


def test_reference_rows_are_measured(tmp_path: Path) -> None:
    found = measure(Cloze(distractors=1), Reading(remembers), tmp_path, reference=reference())
    assert (found.p, found.n) == ((0.5, 0.5), 24)
    law = told(tmp_path)["law"]
    assert (law["accuracy"], law["chance"], law["sharing_prompt_bytes"]) == (1, 0.5, 0)
    assert read(tmp_path / "facts.parquet", FACT)["prompt"][0] == "law, case 0?\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cloze.json", "facts.parquet", "knowledge.json", "resamples.parquet",
    ]  # fmt: skip
    assert KnowledgeDistribution(**json.loads((tmp_path / "knowledge.json").read_text())) == found


def test_the_plan_is_what_is_shown(tmp_path: Path) -> None:
    session, probe = Reading(remembers, byte_tokenizer("b c")), Cloze(max_facts=7, window=12, overlap=4)
    counts = probe.plan(domains=DOMAINS, reference=reference(), tokenizer=session.tokenizer, seed=0)
    measure(probe, session, tmp_path, reference=reference())
    assert (counts.generations, counts.prompt_tokens) == (0, session.n_shown)
    assert max(map(len, session.shown)) == 12


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    few = reference(n=4)
    with pytest.raises(SourceError, match="domain law: too few facts; expected at least 5; got 4; add facts"):
        measure(Cloze(), Reading(halves), tmp_path, reference=few)
    plain = few.with_columns(pl.lit("no answer").alias("text"))
    with pytest.raises(SourceError, match="got 0, with no_answer 4 left out"):
        measure(Cloze(), Reading(halves), tmp_path, reference=plain)
    with pytest.raises(SourceError, match=r"reference texts of an unknown domain; .* got art"):
        measure(Cloze(), Reading(halves), tmp_path, reference=few.with_columns(pl.lit("art").alias("domain")))
    with pytest.raises(ModelError, match="neither a beginning-of-text"):
        measure(Cloze(), Reading(halves, byte_tokenizer(bos=False, eos=False)), tmp_path, reference=reference())


def test_a_real_session_is_measured(session: Session, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the facts are not known better than chance"):  # random weights know nothing
        measure(Cloze(distractors=2), session, tmp_path, reference=reference(n=30))
    for each in told(tmp_path).values():
        assert 0.05 < each["accuracy"] < 0.7
        assert (each["facts"], each["chance"]) == (30, pytest.approx(1 / 3))
