"""Sessions whose answers are files: a run that was stopped asks only for the rest, and others may give the answers.

A request is a shard. How many rows it has is a constant of who asks, so neither where it is answered nor by how many workers
bears on a single byte. What goes from here to a worker is a file beside where the answer is to lie.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from composer.artifact import shard
from composer.encode import load_tokenizer
from composer.progress import track
from composer.tables import read, write
from composer.types import ModelRef
from probes.engines import ENGINES, Completion, Engine, Session, TokenScores
from probes.engines.requests import ANSWERS, Heard, Request, answer, as_table, from_table, n_positions, unheard

ASKED = ".asked"

Spread = Callable[[Sequence[str]], None]
"""Has the named requests answered by :func:`give`, and returns when the answers are there."""


class Filed(ABC):
    """A session whose answers lie in a folder; ``of`` tells models apart that share it.

    ``at_once`` is how many requests are worth making together where some of them may turn out not to be needed.
    """

    at_once: int = 1

    def __init__(self, folder: Path, *, of: str) -> None:
        self._folder, self._of = folder, of
        self._home = folder / ASKED
        self._home.mkdir(parents=True, exist_ok=True)

    @property
    @abstractmethod
    def tokenizer(self) -> Any:
        """The model's tokenizer."""

    @property
    @abstractmethod
    def n_positions(self) -> int | None:
        """How many tokens a sequence may have, where the model tells."""

    @abstractmethod
    def answers(self, requests: Sequence[Request], *, heard: Heard = unheard) -> Iterator[Sequence[Any]]:
        """Yield the answers in the order of the requests; those that are there are not asked for again."""

    @abstractmethod
    def beside(self, engine: Engine, model: ModelRef) -> AbstractContextManager[Filed]:
        """Open another model, whose answers lie in the same folder."""

    def complete(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float = 1.0, seed: int
    ) -> list[Completion]:
        """See :meth:`probes.engines.Session.complete`."""
        settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        return list(self._one(Request("complete", prompts, settings)))

    def score(self, sequences: Sequence[Sequence[int]]) -> list[TokenScores]:
        """See :meth:`probes.engines.Session.score`."""
        return list(self._one(Request("score", sequences)))

    def choose(self, prompts: Sequence[Sequence[int]], choices: Sequence[int]) -> np.ndarray:
        """See :meth:`probes.engines.Session.choose`."""
        return np.asarray(self._one(Request("choose", prompts, {"choices": list(choices)})))

    def _one(self, request: Request) -> Sequence[Any]:
        [found] = self.answers([request])
        return found


class Kept(Filed):
    """A session of this process that keeps its answers."""

    def __init__(self, session: Session, folder: Path, *, of: str = "") -> None:
        super().__init__(folder, of=of)
        self._session = session

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._session.tokenizer

    @property
    def n_positions(self) -> int | None:
        """How many tokens a sequence may have, where the session tells."""
        return n_positions(self._session)

    def answers(self, requests: Sequence[Request], *, heard: Heard = unheard) -> Iterator[Sequence[Any]]:
        """Yield the answers in the order of the requests, each as it is given."""
        for request in requests:

            def ask(path: Path, request: Request = request) -> None:
                write(as_table(request.ask, answer(self._session, request, heard=heard)), path, ANSWERS[request.ask])

            yield _read(shard(self._home, f"{request.name(self._of)}.parquet", ask), request)

    @contextmanager
    def beside(self, engine: Engine, model: ModelRef) -> Iterator[Kept]:
        """Open another model, whose answers are kept in the same folder."""
        with engine.open(model) as session:
            yield Kept(session, self._folder, of=model.path)


class Elsewhere(Filed):
    """A model that is opened by workers alone: here are its tokenizer and, when all of them are there, its answers."""

    at_once = 8

    def __init__(self, engine: Engine, model: ModelRef, folder: Path, spread: Spread, *, of: str = "") -> None:
        super().__init__(folder, of=of)
        self._engine, self._model, self._spread = engine, model, spread

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return load_tokenizer(self._model.path, chat_template=self._model.chat_template)

    @cached_property
    def n_positions(self) -> int | None:
        """How many tokens a sequence may have, where a worker's session tells."""
        found: int | None = self._one(Request("n_positions"))[0]
        return found

    def answers(self, requests: Sequence[Request], *, heard: Heard = unheard) -> Iterator[Sequence[Any]]:
        """Yield the answers in the order of the requests, once all are there."""
        names = [request.name(self._of) for request in requests]
        left = {name: each for name, each in zip(names, requests, strict=True) if not self._answer(name).exists()}
        for name, request in left.items():
            told = json.dumps({"by": self._by, "ask": request.ask, "settings": request.settings, "rows": request.rows})
            (self._home / f"{name}.json").write_text(told, encoding="utf-8")
        begun = time.perf_counter()
        if left:
            self._spread(list(left))
        seconds = time.perf_counter() - begun
        for name, request in zip(names, requests, strict=True):
            found = _read(self._answer(name), request)
            if left.pop(name, None):
                heard(found, seconds)
                seconds = 0.0  # it was the time of all of them together
            yield found

    def _answer(self, name: str) -> Path:
        return self._home / f"{name}.parquet"

    @property
    def _by(self) -> Mapping[str, Any] | None:
        """What a worker opens for an answer: nothing is said where it is the model that the stage is about."""
        return {"engine": self._engine.model_dump(mode="json"), "model": self._model.path} if self._of else None

    @contextmanager
    def beside(self, engine: Engine, model: ModelRef) -> Iterator[Elsewhere]:
        """Return another model, whose answers are given in the same way."""
        yield Elsewhere(engine, model, self._folder, self._spread, of=model.path)


@contextmanager
def open_kept(engine: Engine, model: ModelRef, folder: Path, spread: Spread | None = None) -> Iterator[Filed]:
    """Open a model whose answers lie in a folder; where there is ``spread`` it is opened by workers and not here."""
    if spread is not None:
        yield Elsewhere(engine, model, folder, spread)
        return
    with engine.open(model) as session:
        yield Kept(session, folder)


def give(folder: Path, names: Sequence[str], *, engine: Engine, model: ModelRef) -> None:
    """Answer the named requests that lie in a folder, those that name no model of their own with this one.

    Each model is opened once, and none where all its answers are there.
    """
    left = [folder / ASKED / f"{name}.json" for name in names if not (folder / ASKED / f"{name}.parquet").exists()]
    asked = [json.loads(path.read_text(encoding="utf-8")) for path in left]
    for by in {json.dumps(each["by"]): each["by"] for each in asked}.values():
        own = [Request(each["ask"], each["rows"], each["settings"]) for each in asked if each["by"] == by]
        opener, ref, of = (
            (engine, model, "") if by is None else (_engine(by["engine"]), ModelRef(path=by["model"]), by["model"])
        )
        with opener.open(ref) as session:
            for _ in track(Kept(session, folder, of=of).answers(own), "asking the model", total=len(own), unit="shards"):
                pass


def _engine(fields: Mapping[str, Any]) -> Engine:
    return ENGINES[fields["name"]](**fields)


def _read(path: Path, request: Request) -> Sequence[Any]:
    found: Sequence[Any] = from_table(request.ask, read(path, ANSWERS[request.ask]))
    return found
