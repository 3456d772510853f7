"""Values hold their invariants, tables their columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from composer import tables
from composer.errors import InputError, SpecError, StoreError
from composer.progress import track
from composer.types import KnowledgeDistribution, MixContext, Mixture, Phase, Schedule, SimilarityMatrix, Source, need


@pytest.mark.parametrize("weights", [(0.5, 0.6), (1.5, -0.5), (1.0,), (float("nan"), 1.0)])
def test_a_mixture_is_on_the_simplex(weights: tuple[float, ...]) -> None:
    with pytest.raises(SpecError, match="mixture weights"):
        Mixture(domains=("a", "b"), weights=weights)


def test_a_mixture_names_a_domain_once() -> None:
    with pytest.raises(SpecError, match="names a domain twice"):
        Mixture(domains=("a", "a"), weights=(0.5, 0.5))


def test_a_schedule_is_looked_up_by_position() -> None:
    def phase(name: str, amount: int) -> Phase:
        return Phase(name=name, amount=amount, mixture=Mixture(domains=("a",), weights=(1.0,)), current=("a",))

    schedule = Schedule(phases=(phase("x", 3), phase("y", 0), phase("z", 2)))
    assert schedule.total == 5
    assert [schedule.at(i).name for i in range(5)] == ["x", "x", "x", "z", "z"]
    for outside in (-1, 5):
        with pytest.raises(InputError, match="position outside the schedule; expected 0 to 4"):
            schedule.at(outside)
    assert Schedule(**schedule.model_dump(mode="json")) == schedule


def test_the_phases_of_a_schedule_share_a_unit() -> None:
    phases = tuple(
        Phase(name=unit, amount=1, mixture=Mixture(domains=("a",), weights=(1.0,), unit=unit), current=("a",))
        for unit in ("samples", "tokens")
    )
    with pytest.raises(SpecError, match="must share one unit"):
        Schedule(phases=phases)


@pytest.mark.parametrize(
    ("value", "says"),
    [(((0, 1), (2, 0)), "symmetric"), (((1, 1), (1, 0)), "zero between a domain and itself"), (((0, 1),), "square"),
     (((0, float("inf")), (float("inf"), 0)), "finite")],
)  # fmt: skip
def test_a_distance_matrix_is_one(value: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        SimilarityMatrix(domains=("a", "b"), value=value, measure="m")


def test_between_reads_by_name() -> None:
    assert SimilarityMatrix(domains=("a", "b"), value=((0, 0.3), (0.3, 0)), measure="m").between("b", "a") == 0.3


def test_knowledge_round_trips() -> None:
    known = KnowledgeDistribution(domains=("a",), p=(1.0,), stderr=(0.0,), low=(1.0,), high=(1.0,), n=3)
    assert KnowledgeDistribution(**known.model_dump(mode="json")) == known


def test_a_source_refuses_odd_names_and_its_path_bears_no_identity() -> None:
    with pytest.raises(SpecError, match=r"^name: "):
        Source(name="a/b", path="x", domain="a")
    assert Source(name="a", path="x", domain="a").identity() == Source(name="a", path="y", domain="a").identity()


def test_need_names_who_needs_what() -> None:
    with pytest.raises(SpecError, match="law knowledge: needs knowledge, which this run does not have; set probe"):
        need(MixContext(domains=("a",)), "knowledge", who="law knowledge", hint="set probe")


def test_tables_are_checked_both_ways(tmp_path: Path) -> None:
    frame = pl.DataFrame({"instruction_id": ["a"], "text": ["b"]})
    tables.write(frame, tmp_path / "t.parquet", tables.INSTRUCTION)
    assert tables.read(tmp_path / "t.parquet", tables.INSTRUCTION).equals(frame)
    for bad, says in [
        (frame.drop("text"), "missing columns"),
        (frame.with_columns(pl.lit(1).alias("x")), "unknown columns"),
        (frame.with_columns(pl.lit(1).alias("text")), "column text; expected String; got Int32"),
    ]:
        with pytest.raises(StoreError, match=says):
            tables.check(bad, tables.INSTRUCTION, where="t")


def test_tracking_changes_nothing() -> None:
    assert list(track(iter("abc"), "letters")) == ["a", "b", "c"]
