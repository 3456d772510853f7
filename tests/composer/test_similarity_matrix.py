"""What a matrix of distances must be, and that what was kept before it had errors is still read."""

from __future__ import annotations

from typing import Any

import pytest

from composer.errors import SpecError
from composer.similarity_matrix import SimilarityMatrix

ROWS = ((0.0, 0.5), (0.5, 0.0))
FULL: dict[str, Any] = {
    "domains": ("a", "b"), "value": ROWS, "measure": "m", "stderr": ROWS, "low": ((0, 0.4), (0.4, 0)), "high": ROWS,
    "repeats": (ROWS, ROWS), "excess": ((0, -0.1), (-0.1, 0)), "clouds": ("0f", "f0"),
}  # fmt: skip


def test_it_round_trips_and_reads_what_had_no_errors_yet() -> None:
    matrix = SimilarityMatrix(**FULL)
    assert SimilarityMatrix(**matrix.model_dump(mode="json")) == matrix
    old = {"domains": ["a", "b"], "value": [[0, 0.5], [0.5, 0]], "kind": "distance", "measure": "m", "stderr": None}
    assert SimilarityMatrix(**old).low is None


@pytest.mark.parametrize("name", ["stderr", "low", "high", "excess", "repeats"])
@pytest.mark.parametrize(
    ("rows", "wrong"), [
        (((0.0, 0.5),), "must be square; expected 2 x 2"),
        (((0.0, 0.5), (0.5,)), "must be square"),
        (((0.0, float("inf")), (float("inf"), 0.0)), "must be finite"),
        (((0.0, 0.4), (0.5, 0.0)), "must be symmetric"),
    ],
)  # fmt: skip
def test_every_part_is_a_symmetric_matrix(name: str, rows: Any, wrong: str) -> None:
    given, where = ((ROWS, rows), r"repeats\.1") if name == "repeats" else (rows, name)
    with pytest.raises(SpecError, match=f"{where}: a similarity matrix {wrong}"):
        SimilarityMatrix(**{**FULL, name: given})


@pytest.mark.parametrize(
    ("change", "wrong"), [
        ({"low": ((0, 0.6), (0.6, 0))}, "low: a value outside its interval; expected low <= value <= high; got 0.5"),
        ({"high": ((0, 0.45), (0.45, 0))}, "a value outside its interval"),
        ({"high": None}, "an interval needs both ends"),
        ({"stderr": ((0, -0.1), (-0.1, 0))}, "stderr: a standard error is never negative"),
        ({"repeats": (ROWS, ((0.1, 0.5), (0.5, 0)))}, r"repeats\.1: a distance must be zero between a domain and itself"),
        ({"repeats": (ROWS,)}, "repeats: tuple should have at least 2 items"),
        ({"clouds": ("0f",)}, "clouds: a digest per domain is needed; expected 2; got 1"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(change: dict[str, Any], wrong: str) -> None:
    with pytest.raises(SpecError, match=wrong):
        SimilarityMatrix(**{**FULL, **change})


def test_a_similarity_may_be_anything_on_the_diagonal() -> None:
    matrix = SimilarityMatrix(domains=("a",), value=((1.0,),), kind="similarity", measure="m", low=((0.9,),), high=((1.0,),))
    assert matrix.between("a", "a") == 1
