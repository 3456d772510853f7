"""A probe whose questions are answered elsewhere, by any number of tickets, leaves the bytes of one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import pytest

from composer.types import KnowledgeDistribution, ModelRef
from probes.engines import ENGINES, Completion, Engine, Session
from probes.engines.kept import Elsewhere, Kept, give
from probes.knowledge import KNOWLEDGE
from probes.knowledge.judges import llm
from tests.probes.knowledge.judges import court

DOMAINS = court.DOMAINS
OWN = {"name": "llm"}
OTHER = {"name": "llm", "model": "court", "engine": {"name": "scribe"}}


class Scribe(court.Reader):
    """A session that writes texts of known domains, and knows them again."""

    def __init__(self) -> None:
        super().__init__(strength=0.4, n_positions=600)
        self.seeds: list[int] = []

    def complete(self, prompts: Any, *, max_new_tokens: int, temperature: float, seed: int) -> list[Completion]:
        assert temperature == 1
        self.seeds.append(seed)
        random = np.random.default_rng(seed)
        lengths = random.integers(5, max_new_tokens + 1, size=len(prompts))
        texts = court.drawn(len(prompts), (0.5, 0.3, 0.2), seed=seed)
        return [Completion((7,) * int(n), text, True) for n, text in zip(lengths, texts, strict=True)]


class ScribeEngine(Engine):
    """Opens a scribe, whatever the model."""

    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "for tests"
    name: Literal["scribe"] = "scribe"

    @contextmanager
    def open(self, model: ModelRef) -> Iterator[Any]:  # noqa: ARG002
        yield Scribe()


class There(Elsewhere):
    """Scribes in so many places."""

    def __init__(self, folder: Path, tickets: int) -> None:
        def spread(names: Sequence[str]) -> None:
            self.rounds.append(len(names))
            for i in range(tickets):
                give(folder, names[i::tickets], engine=ScribeEngine(), model=ModelRef(path="scribe"))

        super().__init__(ScribeEngine(), ModelRef(path="scribe"), folder, spread)
        self.rounds: list[int] = []


@pytest.fixture(autouse=True)
def _scribes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "scribe", ScribeEngine)
    monkeypatch.setattr(llm, "ROWS", 15)
    monkeypatch.setattr("probes.engines.kept.load_tokenizer", lambda *_, **__: court.tokenizer())


def measured(session: Session, folder: Path, **fields: Any) -> KnowledgeDistribution:
    texts, labels = court.examples(20, own=0.3)
    probe = KNOWLEDGE["self_generation"](max_new_tokens=20, shard=20, refits=3, **fields)
    reference = pl.DataFrame({"domain": labels, "text": texts})
    return probe.measure(session, domains=DOMAINS, reference=reference, seed=5, folder=folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("judge", "stopped", "fields"),
    [
        (OWN, "samples", {"samples": 130}),
        (OWN, "samples", {"samples": 65, "rounds": 2, "max_tokens": 100_000}),
        (OWN, "width", {"samples": 2000, "width": 0.2}),
        (OTHER, "width", {"samples": 2000, "width": 0.2}),
        ({"name": "classifier"}, "width", {"samples": 2000, "width": 0.2}),
        (OTHER, "tokens", {"samples": 2000, "max_tokens": 2100}),
        (OWN, "tokens", {"samples": 2000, "max_tokens": 2100, "width": 0.01}),
    ],
)
def test_the_files_are_those_of_one_process(
    judge: dict[str, Any], stopped: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    found = measured(Kept(Scribe(), alone), alone, judge=judge, **fields)
    assert found.stopped == stopped
    assert found.n % 20 or stopped == "width", "the last shard is a short one"
    assert measured(There(tmp_path / "there", 3), tmp_path / "there", judge=judge, **fields) == found
    assert files_of(tmp_path / "there") == files_of(alone)


def test_only_a_width_asks_for_what_may_not_be_needed_and_not_for_more_than_eight_shards(tmp_path: Path) -> None:
    one = Scribe()
    found = measured(Kept(one, tmp_path / "one"), tmp_path / "one", samples=2000, width=0.2)
    assert len(one.seeds) == found.n / 20
    assert len(one.seeds) % 8
    wide = There(tmp_path / "wide", 1)
    measured(wide, tmp_path / "wide", samples=2000, width=0.2)
    assert wide.rounds == [8] * -(-len(one.seeds) // 8)
    whole = There(tmp_path / "whole", 1)
    measured(whole, tmp_path / "whole", samples=130)
    assert whole.rounds == [7]
    bound = There(tmp_path / "bound", 1)
    measured(bound, tmp_path / "bound", samples=2000, max_tokens=2100)
    assert bound.rounds[0] == 2100 // 20 // 20
    assert len(bound.rounds) > 2, "what is left of the budget is known when those have been written"


def test_the_judge_too_asks_only_for_the_rest(tmp_path: Path) -> None:
    class Mortal(Scribe):
        calls = 0

        def choose(self, prompts: Any, choices: Any) -> np.ndarray:
            self.calls += 1
            if self.calls == 6:
                raise KeyboardInterrupt
            return super().choose(prompts, choices)

    with pytest.raises(KeyboardInterrupt):
        measured(Kept(Mortal(), tmp_path), tmp_path, samples=130, judge=OWN)
    rest = Scribe()
    measured(Kept(rest, tmp_path), tmp_path, samples=130, judge=OWN)
    whole = Scribe()
    measured(Kept(whole, tmp_path / "whole"), tmp_path / "whole", samples=130, judge=OWN)
    assert rest.seeds == []
    assert rest.asked == whole.asked[-len(rest.asked) :]
    assert 0 < len(rest.asked) < len(whole.asked) - 60
    assert files_of(tmp_path) == files_of(tmp_path / "whole")
