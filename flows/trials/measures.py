"""What a run is judged by: numbers read off its retention report (:func:`probes.retention.retention`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from composer.errors import InputError, SpecError, nearest
from composer.trial.compare import Better

Report = Mapping[str, Any]


class Measure(NamedTuple):
    """A number of a run: its name in words, which way is better, what difference is worth knowing, and how it is read.

    ``read`` gives None where the report does not say it.
    """

    said: str
    better: Better
    worth: float
    read: Callable[[Report], float | None]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) and known else None


def _loss(report: Report) -> float | None:
    return _mean(report["loss_nats_per_token"][-1])


def _exact_match(report: Report) -> float | None:
    return _mean(report["exact_match"][-1])


def _gain(report: Report) -> float | None:
    first, last = (report["loss_nats_per_token"][row] for row in (0, -1))
    shares = [None if not a or b is None else (a - b) / a for a, b in zip(first, last, strict=True)]
    return _mean(shares)


def _kept(report: Report) -> float | None:
    percents = [each["percent"] for each in report["relative_gain"][2:]]
    found = _mean(percents)
    return None if found is None else found / 100


def _forgotten(report: Report) -> float | None:
    from flows.dose import forgetting

    if len(report["current"]) < 3:
        return None
    try:
        return forgetting(report)[0]
    except InputError:
        return None


MEASURES: dict[str, Measure] = {
    "loss": Measure("held-out loss, nats per token, mean over the domains", "lower", 0.05, _loss),
    "exact_match": Measure("exact match, mean over the domains", "higher", 0.05, _exact_match),
    "gain": Measure("share of the held-out loss that training took away, mean over the domains", "higher", 0.02, _gain),
    "kept": Measure("relative gain of earlier tasks, mean over the stages after the first", "higher", 0.05, _kept),
    "forgotten": Measure(
        "share of exact match lost since a task's own stage, mean over earlier tasks", "lower", 0.05, _forgotten
    ),
}
"""The measures; the last two are of sequences."""

OF_A_DOMAIN = {"loss": "loss_nats_per_token", "exact_match": "exact_match"}


def measure_of(name: str) -> Measure:
    """Return the measure of a name; ``loss.law`` and ``exact_match.law`` are those of one domain.

    Raises
    ------
    SpecError
        For a name of none.

    Examples
    --------
    >>> report = {"domains": ["law", "code"], "loss_nats_per_token": [[4.0, 2.0], [1.0, 2.0]]}
    >>> [measure_of(name).read(report) for name in ("loss", "gain", "loss.law")]
    [1.5, 0.375, 1.0]
    """
    word, dot, domain = name.partition(".")
    if not dot and word in MEASURES:
        return MEASURES[word]
    if not dot or word not in OF_A_DOMAIN:
        raise SpecError("no such measure", where="measure", got=name, hint=nearest(word, MEASURES))
    whole, field = MEASURES[word], OF_A_DOMAIN[word]

    def read(report: Report) -> float | None:
        if domain not in report["domains"]:
            raise SpecError("no such domain", where="measure", got=domain, hint=nearest(domain, report["domains"]))
        value: float | None = report[field][-1][report["domains"].index(domain)]
        return value

    return Measure(f"{whole.said.partition(', mean')[0]} of {domain}", whole.better, whole.worth, read)
