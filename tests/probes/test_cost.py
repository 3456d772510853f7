"""Counts times rates are seconds; rates are those of the engine that was asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from composer.errors import FaultError, InputError
from probes.cost import Cost, Counts, Rates, calibrate, estimate
from probes.engines import Completion, Session, TokenScores
from tests.probes.knowledge.reading import byte_tokenizer

BOTH = Counts(generations=10, prompt_tokens=5000, output_tokens=320)


class Machine:
    """A session that takes a known time per token, on a clock of its own; every call may be slower by ``slower``."""

    def __init__(self, *, read: float = 1e5, write: float = 1e4, slower: float = 0.0, ends_after: int = 10**9) -> None:
        self.tokenizer = byte_tokenizer()
        self.read, self.write, self.slower, self.ends_after = read, write, slower, ends_after
        self.now, self.shown, self.written = 0.0, [], []  # type: float, list[Sequence[Sequence[int]]], list[tuple[int, int, int]]

    def time(self) -> float:
        return self.now

    def _spend(self, seconds: float) -> None:
        self.now += seconds * (1 + self.slower * (len(self.shown) + len(self.written)))

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        self.shown.append(sequences)
        self._spend(sum(map(len, sequences)) / self.read)
        return [TokenScores(np.zeros(len(ids) - 1), np.zeros(len(ids) - 1, dtype=bool)) for ids in sequences]

    def complete(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float = 1.0, seed: int
    ) -> list[Completion]:
        assert temperature == 1.0
        self.written.append((len(prompts), max_new_tokens, seed))
        n = min(max_new_tokens, self.ends_after)
        self._spend(len(prompts) * n / self.write)
        return [Completion((5,) * n, "", n < max_new_tokens) for _ in prompts]

    def choose(self, prompts: Sequence[Sequence[int]], choices: Sequence[int]) -> np.ndarray:
        raise NotImplementedError


def rates(machine: Machine, counts: Counts = BOTH, *, repeats: int = 3) -> Rates:
    session: Session = machine
    return calibrate(session, counts, seconds=0.5, repeats=repeats, clock=machine.time)


def test_rates_are_those_of_the_machine() -> None:
    found = rates(Machine(read=1e5, write=1e4))
    assert found.prefill == pytest.approx([1e5] * 3)
    assert found.generation == pytest.approx([1e4] * 3)


def test_a_text_that_ends_early_counts_the_tokens_that_it_has() -> None:
    assert rates(Machine(write=1e4, ends_after=7)).generation == pytest.approx([1e4] * 3)


def test_sizes_double_until_a_run_takes_long_enough() -> None:
    machine = Machine(read=1e4)
    rates(machine)
    sizes = [len(sequences) for sequences in machine.shown]
    assert sizes == [1, 2, 4, 8, 16, 32, 32, 32, 32]  # 20 sequences of 256 tokens take half a second
    assert {len(ids) for sequences in machine.shown for ids in sequences} == {256}
    fast = Machine(read=1e9)
    rates(fast)
    assert max(len(sequences) for sequences in fast.shown) == 256


def test_no_text_is_read_twice() -> None:
    machine = Machine()
    rates(machine)
    read = [tuple(ids) for sequences in machine.shown for ids in sequences]
    assert len(set(read)) == len(read)
    assert all(0 <= token < len(machine.tokenizer) for ids in read for token in ids)
    assert len({seed for _, _, seed in machine.written}) == len(machine.written)


@pytest.mark.parametrize(("output_tokens", "asked"), [(320, 32), (325, 33), (10**6, 128)])
def test_texts_are_as_long_as_those_of_the_probe(output_tokens: int, asked: int) -> None:
    machine = Machine()
    rates(machine, Counts(generations=10, output_tokens=output_tokens))
    assert {new for _, new, _ in machine.written} == {asked}


def test_only_what_is_counted_is_measured() -> None:
    machine = Machine()
    assert rates(machine, Counts(prompt_tokens=9)).generation == ()
    assert machine.written == []
    assert rates(machine, Counts(generations=2, output_tokens=9)).prefill == ()
    assert rates(machine, Counts()) == Rates()


def test_a_model_of_few_positions_is_shown_no_more() -> None:
    machine = Machine()
    machine.tokenizer = byte_tokenizer(positions=40)
    rates(machine)
    assert {len(ids) for sequences in machine.shown for ids in sequences} == {40}


def test_the_estimate_is_counts_over_rates() -> None:
    cost = estimate(BOTH, Rates(prefill=(1000.0,), generation=(32.0,)), devices=4)
    assert cost == Cost(10, 5000, 320, seconds=15.0, low=15.0, high=15.0, device_hours=60 / 3600)
    assert estimate(Counts(), Rates()).seconds == 0


def test_the_uncertainty_is_the_spread_of_the_repeats() -> None:
    machine = Machine(slower=0.05)
    cost = estimate(BOTH, rates(machine, repeats=5))
    assert 0 < cost.low < cost.seconds < cost.high
    steady = estimate(BOTH, rates(Machine(), repeats=5))
    assert steady.low == pytest.approx(steady.high)


def test_estimates_add_up() -> None:
    found = Rates(prefill=(90.0, 100.0), generation=(7.0, 9.0))
    one, other = Counts(prompt_tokens=50), Counts(generations=3, output_tokens=70)
    both = estimate(one + other, found)
    assert both.high == pytest.approx(estimate(one, found).high + estimate(other, found).high)
    assert both.seconds == pytest.approx(estimate(one, found).seconds + estimate(other, found).seconds)


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(FaultError, match="generation: no rate was measured; calibrate with the counts"):
        estimate(BOTH, Rates(prefill=(1.0,)))
    with pytest.raises(InputError, match="repeats: nothing to calibrate with; expected at least 1; got 0"):
        rates(Machine(), repeats=0)
