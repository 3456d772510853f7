"""Tokens of many conversations, counted as :func:`composer.encode.encode` would encode them, in one process or in several.

Conversations are rendered as the trainer will have them and tokenised in batches, by all cores where the tokenizer may use
them; rendering is Python's, so a large input is spread over processes. Counts depend neither on how rows are cut into frames
nor on the number of processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.queues import Queue
from threading import Thread
from typing import Any, Self

import polars as pl

from composer import tables
from composer.encode import ends_of, rendering_of, token_at, tokens, wholes
from composer.errors import FaultError
from composer.render import Rendering
from composer.template import ChatTemplate, Tokenizer
from composer.types import LossOn

BATCH = 256  # rows that are tokenised together
SHARE = 100_000  # rows at least that a process is started for, which takes it two to three seconds

COUNT: tables.Schema = {
    "n_tokens": pl.UInt32,  # at most max_length; null where the template does not carry the row
    "n_loss_tokens": pl.UInt32,
    "truncated": pl.Boolean,
    "reason": pl.String,  # null for a row that can be trained on
    "adapted": pl.Boolean,
    "not_carried": pl.List(pl.String),
}


def count(tokenizer: Tokenizer, frame: pl.DataFrame, *, max_length: int, loss_on: LossOn = "all") -> pl.DataFrame:
    """Return COUNT, row by row, for a frame with ``messages`` and ``extras``, counted in this process."""
    return _Work(tokenizer, max_length, loss_on).count(frame)


def processes_for(rows: int) -> int:
    """Return how many processes to count so many rows with: one for each core, once there is enough to do for each.

    Examples
    --------
    >>> processes_for(150_000)
    1
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, rows // SHARE))


class Counter:
    """Counts frame after frame, in several processes where that pays; a context, for their sake.

    Parameters
    ----------
    tokenizer
        A fast transformers tokenizer with its chat template.
    max_length
        Tokens after which a row is cut.
    loss_on
        Which answers of a row are trained on.
    rows
        How many rows there will be, which decides on the processes.
    processes
        How many processes, whatever the rows.

    Notes
    -----
    Processes are started anew, never forked, so a script that counts much keeps its doings under
    ``if __name__ == "__main__":``.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, max_length: int, loss_on: LossOn = "all", rows: int = 0, processes: int | None = None
    ) -> None:
        self._n = processes or processes_for(rows)
        self._given = (tokenizer, max_length, loss_on)
        self._work = _Work(*self._given) if self._n == 1 else None
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._work is None:
            spawn = get_context("spawn")
            self._handed: Queue[Any] = spawn.Queue()  # a large argument of a process that dies young would wait for ever
            for _ in range(self._n):
                self._handed.put(self._given)
            self._pool = ProcessPoolExecutor(self._n, spawn, initializer=_begin, initargs=(self._handed,))
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._handed.close()
            self._handed.cancel_join_thread()
            self._pool = None

    def count(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return COUNT of a frame with ``messages`` and ``extras``, row by row.

        Raises
        ------
        FaultError
            Where a counting process dies.
        """
        frame = frame.select("messages", "extras")
        if self._pool is None:
            self._work = self._work or _Work(*self._given)
            return self._work.count(frame)
        parts = frame.iter_slices(max(1, -(-len(frame) // self._n)))
        try:
            return pl.concat([pl.DataFrame(schema=pl.Schema(COUNT)), *self._pool.map(_count, parts)])
        except BrokenProcessPool as error:
            hint = 'count in one process, or give it more memory; a script needs its `if __name__ == "__main__":`'
            raise FaultError("a counting process died", hint=hint) from error


class _Work:
    """The counting of one process."""

    def __init__(self, tokenizer: Tokenizer, max_length: int, loss_on: LossOn) -> None:
        self._template = ChatTemplate(tokenizer)
        self._tokenizer = tokenizer
        self._n_ends = tuple(map(len, ends_of(tokenizer)))
        self._max_length = max_length
        self._loss_on = loss_on

    def count(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return COUNT of a frame."""
        rows = [row for part in frame.iter_slices(BATCH) for row in self._rows(part)]
        return pl.DataFrame(rows, schema=pl.Schema(COUNT), orient="row")

    def _rows(self, frame: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
        rendered = [rendering_of(self._template, conversation, loss_on=self._loss_on) for conversation in wholes(frame)]
        texts = [rendering for rendering in rendered if isinstance(rendering, Rendering)]
        found = iter(tokens(self._tokenizer, [rendering.text for rendering in texts]))
        for rendering in rendered:
            if isinstance(rendering, str):
                yield None, None, None, rendering, False, []
            else:
                yield self._row(rendering, next(found))

    def _row(self, rendering: Rendering, found: Any) -> tuple[Any, ...]:
        n_tokens, n_chars = len(found), len(rendering.text)
        spans = (tuple(token_at(found, place, n_chars=n_chars) for place in span) for span in rendering.spans)
        trained = sorted((begin, end) for begin, end in spans)
        if rendering.document:
            before, after = self._n_ends
            trained = [(begin + before, end + before) for begin, end in trained]
            trained.append((n_tokens + before, n_tokens + before + after))
            n_tokens += before + after
        n_loss, reached = 0, 1  # the first token of a text has no prediction
        for begin, end in trained:
            begin, end = max(begin, reached), min(end, self._max_length)
            n_loss += max(0, end - begin)
            reached = max(reached, end)
        reason = None if n_loss else "no_loss_tokens"
        kept, truncated = min(n_tokens, self._max_length), n_tokens > self._max_length
        return kept, n_loss, truncated, reason, rendering.adapted, list(rendering.not_carried)


_working: list[_Work] = []  # of a counting process


def _begin(handed: Queue[Any]) -> None:
    """Begin a counting process: it leaves an interrupt to its parent, and the cores to its like."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _working.append(_Work(*handed.get()))


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, however it did."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _count(frame: pl.DataFrame) -> pl.DataFrame:
    return _working[0].count(frame)
