"""Rules of drawing: their laws, and the same row numbers as the packages that they are the rules of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars, interleave_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import InputError
from composer.export.rules import starts
from composer.export.rules.fraction import fraction
from composer.export.rules.interleave import interleave
from composer.export.rules.resize import resize
from composer.export.rules.streams import drawn, wanted

disable_progress_bars()
STOPS = ("first_exhausted", "all_exhausted", "all_exhausted_without_replacement")
sizes_ = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def per_file(numbers: Any, sizes: Sequence[int]) -> list[list[int]]:
    """Return what was drawn of every file, as places within it, in order."""
    return [
        (numbers[(numbers >= start) & (numbers < start + size)] - start).tolist()
        for start, size in zip(starts(sizes), sizes, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(
    sizes=sizes_,
    parts=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    seed=st.integers(0, 99),
    stop=st.sampled_from(STOPS),
)
def test_interleaving_is_that_of_datasets(sizes: list[int], parts: list[int], seed: int, stop: Any) -> None:
    p = (np.array(parts[: len(sizes)]) / sum(parts[: len(sizes)])).tolist()
    files = [Dataset.from_dict({"at": range(start, start + n)}) for start, n in zip(starts(sizes), sizes, strict=True)]
    theirs = interleave_datasets(files, probabilities=p, seed=seed, stopping_strategy=stop)["at"]
    assert interleave(sizes, p, seed=seed, stop=stop).tolist() == list(theirs)


@settings(max_examples=40, deadline=None)
@given(sizes=sizes_, seed=st.integers(0, 99))
def test_files_are_read_in_order_and_stop_as_promised(sizes: list[int], seed: int) -> None:
    p = [1 / len(sizes)] * len(sizes)
    for stop in STOPS:
        of = per_file(interleave(sizes, p, seed=seed, stop=stop), sizes)
        assert all(rows == [i % n for i in range(len(rows))] for rows, n in zip(of, sizes, strict=True))
        full = [len(rows) >= n for rows, n in zip(of, sizes, strict=True)]
        assert any(full) if stop == "first_exhausted" else all(full)
        if stop == "first_exhausted":
            assert sum(full) == 1
        if stop == "all_exhausted_without_replacement":
            assert [len(rows) for rows in of] == sizes


@settings(max_examples=60, deadline=None)
@given(sizes=sizes_, wants=st.lists(st.integers(0, 99), min_size=4, max_size=4), seed=st.integers(0, 9))
def test_a_number_of_rows_is_whole_passes_and_a_part(sizes: list[int], wants: list[int], seed: int) -> None:
    n = wants[: len(sizes)]
    for state in (None, np.random.RandomState(seed)):
        of = per_file(resize(sizes, n, states=[state] * len(sizes)), sizes)
        for rows, want, size in zip(of, n, sizes, strict=True):
            counts = np.bincount(rows, minlength=size)
            assert len(rows) == want
            assert set(counts.tolist()) <= {want // size, -(-want // size)}


@settings(max_examples=60, deadline=None)
@given(sizes=sizes_, parts=st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(lambda x: x[0] > 0))
def test_fractions_repeat_nothing_and_keep_the_shares(sizes: list[int], parts: list[int]) -> None:
    shares = parts[: len(sizes)]
    of = per_file(fraction(sizes, shares), sizes)
    n = sum(map(len, of))
    for rows, size, share in zip(of, sizes, shares, strict=True):
        assert rows == list(range(len(rows)))
        assert len(rows) <= size
        assert abs(len(rows) - share / sum(shares) * n) <= len(sizes)


@settings(max_examples=60, deadline=None)
@given(
    shards=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3),
    wants=st.lists(st.integers(0, 60), min_size=3, max_size=3),
    seed=st.integers(0, 9),
    granularity=st.integers(1, 4),
)
def test_streams_give_their_rows_evenly(shards: Any, wants: list[int], seed: int, granularity: int) -> None:
    sizes, n = [sum(each) for each in shards], wants[: len(shards)]
    of = per_file(drawn(shards, n, seed=seed, granularity=granularity), sizes)
    for rows, want, size in zip(of, n, sizes, strict=True):
        assert len(rows) == want
        assert min(np.bincount(rows, minlength=size)) >= want // size
        assert max(np.bincount(rows, minlength=size)) <= want // size + 1


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.floats(0.01, 9), min_size=1, max_size=5), epoch=st.integers(1, 500), seed=st.integers(0, 9))
def test_proportions_of_an_epoch_are_within_a_row(parts: list[float], epoch: int, seed: int) -> None:
    n = wanted([7] * len(parts), [{"proportion": part} for part in parts], epoch=epoch, seed=seed)
    assert n.sum() == epoch
    assert np.abs(n - epoch * np.array(parts) / sum(parts)).max() < 1 + 1e-9


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (lambda: interleave([3, 0], [0.5, 0.5], seed=0, stop="all_exhausted"), "a file without rows has a probability"),
        (lambda: interleave([3, 3], [0.5, 0.4], seed=0, stop="all_exhausted"), "not one probability per file with sum 1"),
        (lambda: interleave([3], [0.5, 0.5], seed=0, stop="all_exhausted"), "not one probability per file with sum 1"),
        (lambda: interleave([3, 3], [1, 0], seed=0, stop="all_exhausted"), "file 1 has probability 0"),
        (lambda: interleave([3], [1], seed=0, stop="soon"), "unknown way to stop"),  # type: ignore[arg-type]
        (lambda: resize([0], [3], states=[None]), "rows are wanted of a file that has none"),
        (lambda: fraction([3, 3], [0, 0]), "not one share per file with one above 0"),
        (lambda: wanted([3, 3], [{"proportion": 1}, {"choose": 2}], epoch=None, seed=0), "weights that do not go together"),
        (lambda: wanted([3], [{"repeat": 1, "choose": 2}], epoch=None, seed=0), "weights that do not go together"),
    ],
)
def test_what_the_trainer_would_refuse_is_refused(work: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        work()


def test_an_empty_file_without_a_probability_is_passed_over() -> None:
    assert interleave([2, 0], [1, 0], seed=0, stop="first_exhausted").tolist() == [0, 1]
    assert resize([0, 1], [0, 2], states=[None, None]).tolist() == [0, 0]


def test_the_rules_of_this_folder_are_all_tested_here() -> None:
    here = Path(__file__).parents[4] / "composer/export/rules"
    assert {path.stem for path in here.glob("*.py")} == {"__init__", "interleave", "resize", "fraction", "streams"}
