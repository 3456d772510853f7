"""Training leaves the process as it found it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from transformers.utils import logging

from composer.train.isolated import isolated


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_everything_is_as_it_was_afterwards() -> None:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected, n_threads, bars = drawn(), torch.get_num_threads(), logging.is_progress_bar_enabled()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    with isolated(5, threads=n_threads + 1):
        assert torch.get_num_threads() == n_threads + 1
        assert not logging.is_progress_bar_enabled()
        random.seed(0)
        np.random.seed(0)
        drawn()
    assert drawn() == expected
    assert torch.get_num_threads() == n_threads
    assert logging.is_progress_bar_enabled() == bars


def test_also_after_an_error() -> None:
    state, n_threads = torch.get_rng_state(), torch.get_num_threads()
    with pytest.raises(KeyError), isolated(5, threads=n_threads + 1):
        raise KeyError
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == n_threads


def test_the_block_is_seeded() -> None:
    draws = []
    for seed in (1, 1, 2):
        with isolated(seed):
            draws.append(float(torch.rand(())))
    assert draws[0] == draws[1] != draws[2]
