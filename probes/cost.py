"""What a probe will cost before it is spent: what it asks of a model, counted, over what the very engine does in a second.

A probe plans its counts without a model. A short calibration on the open engine gives rates, several times over, so that the
estimate can say how far the engine's own runs lie apart. Nothing here knows a library or a device.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from composer.encode import ends_of
from composer.errors import FaultError, InputError
from composer.spec import rng, seed_of
from probes.engines import Session

_READ = 256  # tokens of a sequence that is read for calibration
_WRITTEN = 128  # tokens at most of a text that is written for it
_MOST = 256  # sequences at once, about as many as the probes ask for


@dataclass(frozen=True)
class Counts:
    """What is asked of a model, at most: texts to write, tokens to read and tokens to write.

    Examples
    --------
    >>> Counts(prompt_tokens=10) + Counts(generations=2, prompt_tokens=2, output_tokens=64)
    Counts(generations=2, prompt_tokens=12, output_tokens=64)
    """

    generations: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.generations + other.generations, self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
        )  # fmt: skip


class Planned(Protocol):
    """A probe that can tell beforehand what it will ask of a model."""

    def plan(self, *, domains: Sequence[str], reference: pl.DataFrame, tokenizer: Any, seed: int) -> Counts:
        """Return what measuring with the same arguments asks of a model."""


@dataclass(frozen=True)
class Rates:
    """Tokens per second, one value per repeat; empty where a kind of work was not measured."""

    prefill: tuple[float, ...] = ()
    generation: tuple[float, ...] = ()


@dataclass(frozen=True)
class Cost:
    """What a probe costs: counts, seconds with those of the fastest and the slowest repeats, and device-hours."""

    generations: int
    prompt_tokens: int
    output_tokens: int
    seconds: float
    low: float
    high: float
    device_hours: float


def estimate(counts: Counts, rates: Rates, *, devices: int = 1) -> Cost:
    """Return the cost of counts at rates: ``prompt tokens / prefill + output tokens / generation``, on so many devices.

    ``seconds`` takes the median repeat of each kind, ``low`` the fastest and ``high`` the slowest. That is how far the engine's
    own runs lay apart, and no more: a machine that is shared later, or texts that end before their limit, are not in it.

    Raises
    ------
    FaultError
        Where a rate is needed that was not measured.

    Examples
    --------
    >>> cost = estimate(Counts(10, 1000, 600), Rates(prefill=(90.0, 100.0, 110.0), generation=(2.0, 1.0, 3.0)), devices=2)
    >>> cost.seconds, round(cost.low, 2), round(cost.high, 2), round(cost.device_hours, 3)
    (310.0, 209.09, 611.11, 0.172)
    """
    low, seconds, high = (
        _seconds(counts.prompt_tokens, rates.prefill, of, kind="prefill")
        + _seconds(counts.output_tokens, rates.generation, of, kind="generation")
        for of in (max, statistics.median, min)
    )
    return Cost(
        generations=counts.generations, prompt_tokens=counts.prompt_tokens, output_tokens=counts.output_tokens,
        seconds=seconds, low=low, high=high, device_hours=seconds * devices / 3600,
    )  # fmt: skip


def _seconds(n_tokens: int, rates: Sequence[float], of: Callable[[Sequence[float]], float], *, kind: str) -> float:
    if n_tokens == 0:
        return 0.0
    if not rates:
        raise FaultError("no rate was measured", where=kind, hint="calibrate with the counts that are to be estimated")
    return n_tokens / of(rates)


def calibrate(
    session: Session,
    counts: Counts,
    *,
    seed: int = 0,
    seconds: float = 0.5,
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Rates:
    """Return the engine's rates for the kinds of work that the counts ask for, measured on random tokens in a few seconds.

    The number of sequences is doubled until a run takes ``seconds``, 256 of them at most; those runs warm the engine up and are
    thrown away, and ``repeats`` more of the last size are kept. No text occurs twice, so that no cache answers. A text that is
    written begins with the first token alone, and counts the tokens that it has.

    Raises
    ------
    InputError
        For less than one repeat.
    """
    if repeats < 1:
        raise InputError("nothing to calibrate with", where="repeats", expected="at least 1", got=repeats)
    tokenizer = session.tokenizer
    prompt = [token for ends in ends_of(tokenizer) for token in ends][:1] or [0]
    width = int(min(_READ, tokenizer.model_max_length))

    def prefill(n: int, run: int) -> int:
        ids = rng(seed, "calibrate", run).integers(0, len(tokenizer), size=(n, width)).tolist()
        session.score(ids)
        return n * width

    new = min(_WRITTEN, -(-counts.output_tokens // max(counts.generations, 1)))

    def generation(n: int, run: int) -> int:
        made = session.complete([prompt] * n, max_new_tokens=new, seed=seed_of(seed, "calibrate", run))
        return sum(len(completion.ids) for completion in made)

    kinds = (prefill, counts.prompt_tokens), (generation, counts.output_tokens)
    return Rates(*(_rates(work, seconds, repeats, clock) if asked else () for work, asked in kinds))


def _rates(work: Callable[[int, int], int], seconds: float, repeats: int, clock: Callable[[], float]) -> tuple[float, ...]:
    """Time ``work(n, run) -> tokens`` at the first size that takes long enough."""
    n, run = 1, 0
    while _timed(work, n, run, clock)[1] < seconds and n < _MOST:
        n, run = 2 * n, run + 1
    timed = [_timed(work, n, run + 1 + i, clock) for i in range(repeats)]
    return tuple(n_tokens / took for n_tokens, took in timed)


def _timed(work: Callable[[int, int], int], n: int, run: int, clock: Callable[[], float]) -> tuple[int, float]:
    begun = clock()
    n_tokens = work(n, run)
    return n_tokens, max(clock() - begun, 1e-9)
