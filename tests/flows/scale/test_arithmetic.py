"""Sums of a large model: laws first, then numbers that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.scale.arithmetic import HELD, STATES, Serving, Training
from flows.scale.scenario import Gpu, Model

GPU = Gpu(memory_gb=80, tflops=989, memory_gb_per_s=3350, network_gb_per_s=50)
LARGE = Model(parameters=70.6e9, layers=80, hidden=8192, vocabulary=128_256, kv_bytes_per_token=327_680, adapter_parameters=2e8)
FULL = Training(tokens=6e9, steps=20_000, passes=1, micro=8192, processes=64, adapter=False, shard=True, recompute=True)
LORA = replace(FULL, adapter=True, shard=False)


@given(st.integers(1, 512), st.floats(1e3, 1e9))
def test_twice_the_processes_take_half_the_passes_time_and_hear_no_less(processes: int, tokens: float) -> None:
    one = replace(FULL, processes=processes, tokens=tokens)
    two = replace(one, processes=2 * processes)
    assert two.compute(LARGE, flops=1e14) == pytest.approx(one.compute(LARGE, flops=1e14) / 2)
    assert two.gpu_memory(LARGE) < one.gpu_memory(LARGE)


@given(st.floats(1e6, 1e9))
def test_time_is_in_proportion_to_tokens_and_parameters(tokens: float) -> None:
    one, two = replace(FULL, tokens=tokens), replace(FULL, tokens=2 * tokens)
    larger = LARGE.model_copy(update={"parameters": 2 * LARGE.parameters})
    assert two.compute(LARGE, flops=1e14) == pytest.approx(2 * one.compute(LARGE, flops=1e14))
    assert one.compute(larger, flops=1e14) == pytest.approx(2 * one.compute(LARGE, flops=1e14))


def test_a_70_b_is_too_large_for_one_gpu_and_its_states_are_not_for_64() -> None:
    room = GPU.memory_gb * 1e9
    assert LORA.gpu_memory(LARGE) > 2 * LARGE.parameters > room
    assert replace(FULL, shard=False).gpu_memory(LARGE) > STATES * LARGE.parameters == pytest.approx(1129.6e9)
    states = STATES * LARGE.parameters / 64
    assert states == pytest.approx(17.65e9)
    assert states < FULL.gpu_memory(LARGE) < room
    assert replace(FULL, recompute=False).gpu_memory(LARGE) > room  # its activations, kept
    assert HELD * LARGE.parameters == pytest.approx(847.2e9)


def test_what_rests_is_not_exchanged_and_costs_two_thirds() -> None:
    assert (FULL.factor, LORA.factor) == (8, 6)
    assert replace(LORA, recompute=False).factor / replace(FULL, recompute=False).factor == pytest.approx(2 / 3)
    assert LORA.exchange(LARGE, GPU) < FULL.exchange(LARGE, GPU) / 100
    assert replace(FULL, processes=1).exchange(LARGE, GPU) == 0


def test_weights_are_gathered_for_every_pass() -> None:
    once = replace(FULL, steps=1)
    assert once.exchange(LARGE, GPU) == pytest.approx(3 * 4 * 70.6e9 * 63 / 64 / 50e9)
    assert replace(once, passes=2).exchange(LARGE, GPU) == pytest.approx(2 * once.exchange(LARGE, GPU))
    whole = replace(once, shard=False)
    assert replace(whole, passes=2).exchange(LARGE, GPU) == whole.exchange(LARGE, GPU)


def test_writing_is_bound_by_weights_for_few_texts_and_by_products_for_many() -> None:
    speed = {"mfu": 0.3, "bandwidth": 0.6}
    few, some, many = (Serving(8, 1, batch).writing(LARGE, GPU, **speed) for batch in (1, 2, 100_000))
    assert few == pytest.approx(8 * 3350e9 * 0.6 / 141.2e9)
    assert some == pytest.approx(2 * few)
    assert many == pytest.approx(8 * 989e12 * 0.3 / 141.2e9)
    assert Serving(8, 8, 1).writing(LARGE, GPU, **speed) == pytest.approx(8 * few)


def test_an_engine_holds_its_part_of_the_weights_and_what_texts_keep() -> None:
    alone, eight = Serving(1, 1, 256), Serving(8, 1, 256)
    assert alone.gpu_memory(LARGE, tokens=0) == 141.2e9
    assert eight.gpu_memory(LARGE, tokens=512) == pytest.approx((141.2e9 + 256 * 512 * 327_680) / 8)
