"""A language model as the judge: what it answers is known exactly, so what the judge makes of it is, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from composer.errors import ModelError, SpecError
from composer.types import ModelRef
from probes.engines import Session
from probes.engines.hf import Hf
from probes.knowledge.judges.llm import FittedLlm, Llm
from probes.knowledge.judges.scaling import log_softmax
from tests.probes.knowledge.judges.court import DOMAINS, WORDS, Reader, examples, text


def fit(reader: Reader, *, own: float = 0.1, domains: tuple[str, ...] = DOMAINS, seed: int = 1, **fields: Any) -> FittedLlm:
    return Llm(**fields).fit(*examples(40, own=own), domains=domains, seed=seed, session=reader)


@pytest.fixture(scope="module")
def fresh() -> list[str]:
    return examples(20, seed=9, own=0.1)[0]


def test_the_calibrated_answer_is_the_known_law_bent_by_the_reported_numbers(fresh: list[str]) -> None:
    fitted = fit(Reader(strength=0.3, bias=(2, 0, -1)))
    counts = np.array([[sum(word in WORDS[domain].split() for word in each.split()) for domain in DOMAINS] for each in fresh])
    log_p = log_softmax(0.3 * counts + [0, -1, 2])  # the letters of law, medicine and code are B, C and A
    numbers = fitted.report["calibration"]
    expected = np.exp(log_softmax(numbers["slope"] * log_p + numbers["offset"]))
    assert fitted.probabilities(fresh) == pytest.approx(expected, abs=1e-9)
    assert np.array(numbers["offset"]) / numbers["slope"] == pytest.approx(np.array([1 / 3, 4 / 3, -5 / 3]), abs=0.5)


def test_neither_bias_nor_strength_nor_mass_of_the_answers_matters(fresh: list[str]) -> None:
    plain = fit(Reader()).probabilities(fresh)
    for reader in (Reader(bias=(3, 0, -2)), Reader(strength=0.2), Reader(mass=1e-6), Reader(strength=3, bias=(-5, 1, 0))):
        assert fit(reader).probabilities(fresh) == pytest.approx(plain, abs=1e-3)


def test_no_letter_is_preferred_after_calibration() -> None:
    texts, labels = examples(40, own=0.1)
    reader = Reader(strength=0.3, bias=(2, 0, -1))
    fitted = Llm(shots=0, max_texts=40).fit(texts, labels, domains=DOMAINS, seed=1, session=reader)
    assert fitted.probabilities(texts).mean(axis=0) == pytest.approx(1 / 3, abs=1e-4)
    assert fitted.confusion.sum(axis=1) == pytest.approx(1, abs=0.1)


def test_the_shares_of_the_letters_in_the_answer_are_reported() -> None:
    assert fit(Reader(mass=0.25)).report["calibration"]["label_mass"] == pytest.approx(0.25)


@pytest.mark.parametrize("chat", [False, True])
def test_every_text_is_asked_once_behind_the_same_shots(chat: bool, fresh: list[str]) -> None:
    reader = Reader(chat=chat)
    fitted = fit(reader, shots=3)
    assert len(reader.asked) == 3 * 37
    fitted.probabilities(fresh)
    fitted.again(fresh, 5, 0)  # asks nothing
    assert len(reader.asked) == 3 * 37 + 60
    before = {asked.rpartition("Text:\n")[0] for asked in reader.asked}
    assert len(before) == 1
    [shots] = before
    assert shots.count("Text:\n") == 9
    assert all(each in asked for each, asked in zip(fresh, reader.asked[-60:], strict=True))
    judged = {asked.rpartition("Text:\n")[2] for asked in reader.asked[: 3 * 37]}
    assert not any(each.partition("\n")[0] in shots for each in judged)  # no text is its own shot


def test_another_seed_draws_other_shots() -> None:
    readers = [Reader() for _ in range(3)]
    for reader, seed in zip(readers, (1, 1, 2), strict=True):
        fit(reader, seed=seed)
    one, same, other = (reader.asked[0].rpartition("Text:\n")[0] for reader in readers)
    assert one == same != other


def test_letters_belong_to_names_and_not_to_places(fresh: list[str]) -> None:
    one, other = (fit(Reader(strength=0.3, bias=(2, 0, -1)), domains=order) for order in (DOMAINS, DOMAINS[::-1]))
    assert other.probabilities(fresh)[:, ::-1] == pytest.approx(one.probabilities(fresh), abs=1e-5)


def test_long_texts_are_cut_at_their_end_and_counted() -> None:
    random = np.random.default_rng(3)
    reader = Reader()
    fitted = fit(reader)
    before = len(reader.tokenizer(reader.asked[0])["input_ids"])
    reader.n_positions = before + 60
    long = text("law", random, own=0.0, length=120) + " court court court"
    probability = fitted.probabilities([long, "the court", "a loop"])
    assert fitted.judged(probability)["cut"] == 1
    assert fitted.judged(probability)["n"] == 3
    assert "court court" not in reader.asked[-3]
    assert reader.asked[-3].endswith("\nDomain:")
    assert probability.argmax(axis=1).tolist()[1:] == [0, 2]
    n_asked = len(reader.asked)
    assert (fitted.probabilities([long, "a loop"]) == probability[[0, 2]]).all()
    assert len(reader.asked) == n_asked  # what was asked about once is known
    assert fitted.judged(probability)["cut"] == 1


def test_only_the_beginning_of_a_text_is_shown() -> None:
    reader = Reader()
    fitted = fit(reader, max_chars=30)
    fitted.probabilities(["the court " * 10])
    assert reader.asked[-1].rpartition("Text:\n")[2] == "the court " * 3 + "\nDomain:"


def test_shots_that_leave_no_room_are_refused() -> None:
    with pytest.raises(ModelError, match=r"leave no room for a text; expected fewer than 99 tokens; got \d+; lower judge"):
        fit(Reader(n_positions=100), shots=5)


def test_a_judge_without_a_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"probe.judge.model: no model to judge with; name a model"):
        Llm().fit(*examples(), domains=DOMAINS, seed=1)


def test_a_recipe_names_the_model_and_how_it_is_run() -> None:
    judge = Llm(model="some/model", engine={"name": "hf", "device": "cpu"}, shots=1)
    assert judge.engine == Hf(device="cpu")
    assert judge.identity()["model"] == "some/model"
    assert judge.identity()["engine"] == {"name": "hf"}
    with pytest.raises(SpecError, match=r"engine\.name: unknown engine 'hff'; did you mean 'hf'"):
        Llm(engine="hff")
    with pytest.raises(SpecError, match="shots"):
        Llm(shots=-1)


def test_a_model_of_its_own_is_open_only_while_it_is_asked(monkeypatch: pytest.MonkeyPatch, fresh: list[str]) -> None:
    opened: list[str] = []

    @contextmanager
    def open_(_: Hf, model: ModelRef) -> Iterator[Session]:
        opened.append(f"open {model.path}")
        yield Reader()
        opened.append("closed")

    monkeypatch.setattr(Hf, "open", open_)
    probed = Reader()
    fitted = Llm(model="another").fit(*examples(), domains=DOMAINS, seed=1, session=probed)
    assert opened == ["open another", "closed"]
    fitted.probabilities(fresh)
    assert opened == ["open another", "closed"] * 2
    assert not probed.asked


def test_a_random_model_is_refused_with_its_number(tiny_model: Path) -> None:
    texts, labels = examples(12)
    judge = Llm(model=str(tiny_model), shots=0, max_chars=40)
    with pytest.raises(ModelError, match=r"tell the domains apart; expected above 0.500; got accuracy 0\.[1-4]\d+ over 3"):
        judge.fit(texts, labels, domains=DOMAINS, seed=1)
