"""A cloud is a measure: one form whatever the rows' order, and a digest that tells two forms apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.similarity import Cloud
from composer.similarity.base import joined
from composer.spec import rng


@given(seed=st.integers(0, 999), m=st.integers(1, 40), kinds=st.integers(1, 3), d=st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_rows_are_joined_as_by_their_bytes(seed: int, m: int, kinds: int, d: int) -> None:
    x = rng(seed, "rows").integers(-kinds, kinds, size=(m, d)).astype(np.float32)
    points, which = joined(x)
    assert np.array_equal(points[which], x)
    expected = sorted({row.tobytes() for row in x + np.float32(0)})
    assert [row.tobytes() for row in points] == expected


@given(seed=st.integers(0, 999), m=st.integers(1, 30), data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_digest_is_that_of_the_measure(seed: int, m: int, data: st.DataObject) -> None:
    dice = rng(seed, "cloud")
    x, w = dice.normal(size=(m, 3)).astype(np.float32), dice.integers(1, 9, size=m).astype(np.float64)
    order = np.array(data.draw(st.permutations(range(m))))
    digest = Cloud(x, w).digest
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert Cloud(x[order], w[order]).digest == digest
    assert Cloud(np.repeat(x, 2, axis=0), np.repeat(w / 2, 2)).digest == digest
    assert Cloud(x, w * 4).digest == digest


def test_other_points_weights_and_shapes_have_other_digests() -> None:
    clouds = [
        Cloud([[1, 0], [0, 1]]), Cloud([[1, 0], [0, 1]], [1, 2]), Cloud([[1, 0], [0, 2]]),
        Cloud([[1], [0], [2]]), Cloud([[1, 0]]),
    ]  # fmt: skip
    assert len({cloud.digest for cloud in clouds}) == len(clouds)


def test_what_is_given_is_left_as_it_is() -> None:
    x = np.array([[-0.0, 1], [0, 1]], dtype=np.float32)
    before = x.tobytes()
    assert Cloud(x).weights.tolist() == pytest.approx([1])
    assert x.tobytes() == before
