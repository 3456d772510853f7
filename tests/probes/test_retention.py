"""What was kept and forgotten follows from the scores; an undefined ratio is None."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.encode import encode, prompt_ids
from composer.errors import SourceError
from composer.progress import Silence, listener
from composer.tables import EVALUATION, SAMPLE, check
from probes.engines import Session
from probes.retention import Stage, Summary, forgetting_rate, measure, relative_gain, retention, summarise


def samples(conversations: list[list[dict[str, str]]], domains: list[str]) -> pl.DataFrame:
    n = len(conversations)
    return pl.DataFrame(
        {
            "sample_id": [f"{i:016x}" for i in range(n)], "source": ["s"] * n, "domain": domains, "role": ["validation"] * n,
            "instruction_id": ["0" * 16] * n, "messages": conversations, "n_tokens": [1] * n, "n_loss_tokens": [1] * n,
            "license": ["MIT"] * n, "source_revision": ["r"] * n, "extras": [None] * n,
        },
        schema=dict(SAMPLE),
    )  # fmt: skip


def turn(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def evaluation(rows: list[tuple[str, float, int, bool]]) -> pl.DataFrame:
    full = [(domain, f"{i:016x}", loss, n, exact) for i, (domain, loss, n, exact) in enumerate(rows)]
    return pl.DataFrame(full, schema=dict(EVALUATION), orient="row")


def summary(loss: float, exact: float) -> Summary:
    return Summary(loss_nats_per_token=loss, stderr=0.1, exact_match=exact, exact_stderr=0.1, n=10, n_loss_tokens=50)


TURNS = [
    turn("name the court", "the rent"),
    turn("explain the fever", "the patient must pay the rent over night"),
    turn("sort", "a list of numbers"),
]


def test_loss_is_the_cross_entropy_of_the_answers(session: Session) -> None:
    found = measure(session, samples(TURNS, ["law", "medicine", "law"]), max_length=200)
    check(found, EVALUATION, where="test")
    assert found["sample_id"].to_list() == [f"{i:016x}" for i in range(3)]
    assert found["domain"].to_list() == ["law", "medicine", "law"]
    for row, encoding in zip(found.iter_rows(named=True), encode(session.tokenizer, TURNS, max_length=200), strict=True):
        ids, labels = torch.tensor([encoding.ids]), torch.tensor([encoding.ids])
        labels[0, ~torch.tensor(encoding.trained)] = -100
        with torch.inference_mode():
            mean = session._model(ids, labels=labels).loss.item()
        assert row["n_loss_tokens"] == encoding.n_loss_tokens
        assert row["loss_nats"] / row["n_loss_tokens"] == pytest.approx(mean, abs=1e-4)
        assert not row["exact"]


def test_exact_means_that_greedy_decoding_is_right(session: Session) -> None:
    question = TURNS[0][:1]
    [greedy] = session.complete([prompt_ids(session.tokenizer, question)], max_new_tokens=6, temperature=0, seed=0)

    class Whole:  # the answer as token ids: text would not always come back as the same tokens
        tokenizer = session.tokenizer

        def score(self, sequences: list[tuple[int, ...]]) -> Any:
            prompt = prompt_ids(session.tokenizer, question)
            tail = [list(greedy.ids), [*greedy.ids[:-1], (greedy.ids[-1] + 1) % 300]]
            assert len(sequences) == 2
            found = session.score([[*prompt, *ids] for ids in tail])
            keep = [len(ids) - 1 for ids in sequences]
            return [type(s)(s.logprob[-n:], s.top[-n:]) for s, n in zip(found, keep, strict=True)]

        complete = session.complete

    # two documents of six tokens each, all of them trained on
    text = session.tokenizer.decode([200, 201, 202, 203])
    rows = samples([[{"role": "assistant", "content": text}]] * 2, ["law", "law"])
    lengths = [len(e.ids) for e in encode(session.tokenizer, rows["messages"].to_list(), max_length=7)]
    assert max(lengths) <= 7
    assert measure(Whole(), rows, max_length=7)["exact"].to_list() == [True, False]


def test_rows_that_cannot_be_measured_are_told(session: Session) -> None:
    said: list[str] = []

    class Listener(Silence):
        def say(self, line: str) -> None:
            said.append(line)

    rows = samples([TURNS[0], turn("explain " * 60, "late"), TURNS[2]], ["law"] * 3)
    with listening(Listener()):
        found = measure(session, rows, max_length=30)
    assert found["sample_id"].to_list() == [f"{0:016x}", f"{2:016x}"]
    assert said == ["1 of 3 validation samples are left out: no_loss_tokens 1"]
    with pytest.raises(SourceError, match="no validation sample can be measured; expected at least one; got no_loss_tokens 1"):
        measure(session, rows[1:2], max_length=30)
    with pytest.raises(SourceError, match="got no rows"):
        measure(session, rows[:0], max_length=30)


@contextmanager
def listening(to: Silence) -> Any:
    token = listener.set(to)
    yield
    listener.reset(token)


def test_a_summary_weighs_tokens() -> None:
    found = summarise(evaluation([("law", 4.0, 2, True), ("code", 1.0, 1, True), ("law", 2.0, 4, False)]))
    assert list(found) == ["law", "code"]
    law, code = found["law"], found["code"]
    assert law["loss_nats_per_token"] == 1.0
    assert law["stderr"] == pytest.approx(math.sqrt(2 * (2.0**2 + 2.0**2)) / 6)
    assert (law["exact_match"], law["n"], law["n_loss_tokens"]) == (0.5, 2, 6)
    assert law["exact_stderr"] == pytest.approx(0.5)
    assert (code["stderr"], code["exact_stderr"], code["loss_nats_per_token"]) == (None, None, 1.0)


def test_the_standard_error_is_the_spread_of_repeated_measures() -> None:
    random = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(400):
        n = random.integers(1, 20, size=60)
        loss = n * random.gamma(4, 0.5, size=60)
        found = summarise(evaluation([("a", float(x), int(k), False) for x, k in zip(loss, n, strict=True)]))["a"]
        means.append(found["loss_nats_per_token"])
        errors.append(found["stderr"])
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.15)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.integers(1, 9), st.booleans()), min_size=2, max_size=10), st.randoms())
def test_a_summary_does_not_depend_on_the_order(rows: list[tuple[float, int, bool]], random: Any) -> None:
    table = [("a", *row) for row in rows]
    one = summarise(evaluation(table))["a"]
    random.shuffle(table)
    assert summarise(evaluation(table))["a"] == pytest.approx(one)


def test_the_published_identities_hold() -> None:
    assert relative_gain([40, 30], [50, 40]) == pytest.approx(77.5)
    assert relative_gain([50, 40], [50, 40]) == 100
    assert relative_gain([], []) == 100
    assert relative_gain([5, 30], [0, 40]) == 75
    assert relative_gain([5], [0]) is None
    assert forgetting_rate(50, 40) == 20
    assert forgetting_rate(0.5, 0.6) == pytest.approx(-20)
    assert forgetting_rate(0, 0.5) is None


def sequence() -> list[Stage]:
    return [
        Stage(name="before", current=[], domains={"law": summary(3, 0.1), "code": summary(4, 0.0), "chat": summary(2, 0.5)}),
        Stage(
            name="one", current=["law"], domains={"law": summary(1, 0.8), "code": summary(4, 0.0), "chat": summary(2.5, 0.4)}
        ),
        Stage(name="two", current=["code"], domains={"law": summary(2, 0.4), "code": summary(1, 0.6), "chat": summary(3, 0.2)}),
    ]


def test_retention_reads_forgetting_off_the_score_matrix() -> None:
    found = retention(sequence())
    assert found["stages"] == ["before", "one", "two"]
    assert found["domains"] == ["law", "code", "chat"]
    assert found["exact_match"] == [[0.1, 0.0, 0.5], [0.8, 0.0, 0.4], [0.4, 0.6, 0.2]]
    assert found["loss_nats_per_token"] == [[3, 4, 2], [1, 4, 2.5], [2, 1, 3]]
    assert found["forgetting"]["law"] == {"since": "one", "exact_match_rate": pytest.approx(50), "loss_increase_nats": 1}
    assert found["forgetting"]["code"] == {"since": "two", "exact_match_rate": 0, "loss_increase_nats": 0}
    assert found["forgetting"]["chat"] == {"since": "before", "exact_match_rate": pytest.approx(60), "loss_increase_nats": 1}
    assert found["relative_gain"] == [
        {"stage": "before", "percent": 100, "n_domains": 0},
        {"stage": "one", "percent": 100, "n_domains": 0},
        {"stage": "two", "percent": pytest.approx(50), "n_domains": 1},
    ]


def test_an_undefined_ratio_is_none() -> None:
    stages = sequence()
    stages[1]["domains"]["law"]["exact_match"] = 0.0  # type: ignore[index]
    found = retention(stages)
    assert found["forgetting"]["law"]["exact_match_rate"] is None
    assert found["forgetting"]["law"]["loss_increase_nats"] == 1
    assert found["relative_gain"][2] == {"stage": "two", "percent": None, "n_domains": 0}


def test_a_domain_that_a_stage_did_not_measure_is_none() -> None:
    stages = sequence()
    stages[2] = Stage(name="two", current=["code"], domains={"code": summary(1, 0.6)})
    found = retention(stages)
    assert found["exact_match"][2] == [None, 0.6, None]
    assert found["forgetting"]["law"] == {"since": "one", "exact_match_rate": None, "loss_increase_nats": None}
    assert found["relative_gain"][2] == {"stage": "two", "percent": None, "n_domains": 0}
    assert found["mean_relative_gain"] == {"percent": 100, "std_percent": 0, "n_stages": 1}


def test_a_domain_that_comes_back_is_measured_from_its_last_stage() -> None:
    stages = [*sequence(), Stage(name="three", current=["law"], domains={"law": summary(0.5, 0.9), "code": summary(3, 0.3)})]
    found = retention(stages)
    assert found["forgetting"]["law"]["since"] == "three"
    assert found["relative_gain"][3] == {"stage": "three", "percent": pytest.approx(50), "n_domains": 1}


def test_no_stages_are_no_findings() -> None:
    nothing = {"exact_match": None, "loss_nats": None, "n_domains": 0}
    assert retention([]) == {
        "stages": [], "current": [], "domains": [], "loss_nats_per_token": [], "exact_match": [], "forgetting": {},
        "upper": "own stage", "experts": {}, "relative_gain": [],
        "mean_relative_gain": {"percent": None, "std_percent": None, "n_stages": 0},
        "backward_transfer": nothing, "forward_transfer": nothing,
    }  # fmt: skip
