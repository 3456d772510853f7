"""What a session is asked, as data: a request can be put down in a file, and so can its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import polars as pl

from composer.errors import FaultError, ModelError
from composer.spec import digest
from composer.tables import Schema
from composer.types import ModelRef
from probes.engines import Completion, Engine, Session, TokenScores

Ask = Literal["complete", "score", "choose", "n_positions"]

ANSWERS: dict[Ask, Schema] = {
    "complete": {"ids": pl.List(pl.UInt32), "text": pl.String, "finished": pl.Boolean},
    "score": {"logprob": pl.List(pl.Float64), "top": pl.List(pl.Boolean)},
    "choose": {"logprob": pl.List(pl.Float64)},
    "n_positions": {"n_positions": pl.UInt32},
}
"""The tables that answers are kept in: a row for every sequence that was asked about, in their order."""

Heard = Callable[[Sequence[Any], float], None]
"""Hears of an answer that was given just now, and the seconds that it took."""


@dataclass(frozen=True)
class Request:
    """One call of a session: the method, the token sequences and the rest of its arguments.

    ``n_positions`` asks how many tokens the model has positions for, where that is known; its answer is a list of that number.
    """

    ask: Ask
    rows: Sequence[Sequence[int]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def name(self, of: str) -> str:
        """Return what names the answer of the model ``of``: another question has another name, whenever it was asked."""
        return digest([of, self.ask, dict(self.settings), [list(row) for row in self.rows]])


@runtime_checkable
class Answering(Protocol):
    """A session that is told of several requests at once; see :class:`probes.engines.kept.Filed`."""

    at_once: int

    def beside(self, engine: Engine, model: ModelRef) -> AbstractContextManager[Session]:
        """Open another model, which is asked in the same way."""

    def answers(self, requests: Sequence[Request], *, heard: Heard) -> Iterator[Sequence[Any]]:
        """Yield the answers in the order of the requests."""


def unheard(answer: Sequence[Any], seconds: float) -> None:
    """Take notice of nothing."""


def answers(session: Session, requests: Sequence[Request], *, heard: Heard = unheard) -> Iterator[Sequence[Any]]:
    """Yield what a session answers to each request, in their order: what its methods return, row by row."""
    if isinstance(session, Answering):
        yield from session.answers(requests, heard=heard)
    else:
        for request in requests:
            yield answer(session, request, heard=heard)


def answer(session: Session, request: Request, *, heard: Heard = unheard) -> Sequence[Any]:
    """Return what a session answers to a request.

    Raises
    ------
    FaultError
        Where the engine gives back fewer rows than it was asked for, or more.
    ModelError
        Where the model holds a text for impossible.
    """
    if request.ask == "n_positions":
        return [n_positions(session)]
    begun = time.perf_counter()
    given: Sequence[Any] = getattr(session, request.ask)(request.rows, **request.settings)
    heard(given, time.perf_counter() - begun)
    if len(given) != len(request.rows):
        raise FaultError("the engine lost rows", where=request.ask, expected=str(len(request.rows)), got=len(given))
    if request.ask == "score" and not all(np.isfinite(each.logprob).all() for each in given):
        hint = "try dtype float32"
        raise ModelError("the model holds a text for impossible", expected="finite log-probabilities", hint=hint)
    return given


def beside(session: Session | None, engine: Engine, model: ModelRef) -> AbstractContextManager[Session]:
    """Open another model than a session's, to be asked in the same way."""
    return session.beside(engine, model) if isinstance(session, Answering) else engine.open(model)


def at_once(session: Session) -> int:
    """Return how many requests are worth making together where some of them may turn out not to be needed."""
    return session.at_once if isinstance(session, Answering) else 1


def n_positions(session: Session) -> int | None:
    """Return how many tokens a sequence may have, where the session tells."""
    found: int | None = getattr(session, "n_positions", None)
    return found


def as_table(ask: Ask, given: Iterable[Any]) -> pl.DataFrame:
    """Return an answer as the table that it is kept in."""
    rows: list[tuple[Any, ...]]
    if ask == "complete":
        rows = [(each.ids, each.text, each.finished) for each in given]
    elif ask == "score":
        rows = [(each.logprob.tolist(), each.top.tolist()) for each in given]
    elif ask == "choose":
        rows = [(each.tolist(),) for each in given]
    else:
        rows = [(each,) for each in given]
    return pl.DataFrame(rows, schema=dict(ANSWERS[ask]), orient="row")


def from_table(ask: Ask, table: pl.DataFrame) -> Any:
    """Return the answer that is kept in a table.

    Examples
    --------
    >>> from_table("complete", as_table("complete", [Completion((5, 1), "a", True)]))
    [Completion(ids=(5, 1), text='a', finished=True)]
    """
    if ask == "complete":
        return [Completion(tuple(ids), text, finished) for ids, text, finished in table.iter_rows()]
    if ask == "score":
        return [
            TokenScores(np.array(logprob, dtype=np.float64), np.array(top, dtype=bool)) for logprob, top in table.iter_rows()
        ]
    if ask == "choose":
        return np.array(table["logprob"].to_list(), dtype=np.float64)
    return table["n_positions"].to_list()
