"""Keys that were met: the same answers as a set gives, through growth, copies and crowded slots."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from composer.ingest.met import Met
from composer.spec import rng

ONES = st.integers(1, 40).map(lambda i: i.to_bytes(8, "little"))
CROWDED = st.builds(lambda low, high: low + high, ONES.map(lambda b: b[:2] + b"\x00" * 6), ONES)


def told_by_a_set(batches: list[list[bytes]]) -> list[list[bool]]:
    known: set[bytes] = set()
    out = []
    for batch in batches:
        out.append([key not in known and not known.add(key) for key in batch])  # type: ignore[func-returns-value]
    return out


@given(st.lists(st.lists(CROWDED | st.binary(min_size=16, max_size=16).filter(any), max_size=30), max_size=5))
def test_answers_are_those_of_a_set(batches: list[list[bytes]]) -> None:
    met = Met()
    assert [met.add(batch).tolist() for batch in batches] == told_by_a_set(batches)
    assert len(met) == len({key for batch in batches for key in batch})


def test_nothing_is_forgotten_while_the_table_grows() -> None:
    data = rng(0, "met").bytes(16 * 100_000)
    keys = [data[i : i + 16] for i in range(0, len(data), 16)]
    met = Met()
    for start in range(0, len(keys), 3_000):
        assert met.add(keys[start : start + 3_000]).all()
    assert len(met) == len(keys)
    assert not met.add(keys[::-1]).any()


def test_keys_that_share_their_first_half_are_told_apart() -> None:
    keys = [b"\x07" * 8 + i.to_bytes(8, "little") for i in range(5_000)]
    met = Met()
    assert met.add([*keys, *keys]).tolist() == [True] * 5_000 + [False] * 5_000
    assert not np.any(met.add(keys))
