"""Rates: what one unit of work takes, each with where it was measured, or why it is assumed. They lie in ``rates.yaml``.

The file is written by ``docs/generate.py`` from the results of the benchmarks, so that a new measurement changes estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml

from composer.errors import SpecError, nearest
from composer.spec import Spec

FILE = Path(__file__).with_name("rates.yaml")


class Rate(Spec):
    """A value in a unit. ``kind``: measured by a benchmark, logged by hand, counted from the code, assumed, or stated."""

    value: float
    unit: str
    kind: Literal["measured", "logged", "counted", "assumed", "stated"]
    source: str
    machine: str = ""


class Rates:
    """Rates by name, which remember those that were asked for."""

    def __init__(self, known: Mapping[str, Rate]) -> None:
        self.known = known
        self.used: dict[str, Rate] = {}

    def __getitem__(self, name: str) -> float:
        self.used[name] = self.known[name]
        return self.known[name].value


def read_rates(stated: Mapping[str, float] | None = None) -> Rates:
    """Return the rates of the file, those that are stated in their place.

    Raises
    ------
    SpecError
        For a name that is no rate, or a value that is not above zero.

    Examples
    --------
    >>> rates = read_rates({"train.mfu": 0.4})
    >>> rates["train.mfu"], rates.used["train.mfu"].kind
    (0.4, 'stated')
    """
    known = {name: Rate(**fields) for name, fields in yaml.safe_load(FILE.read_text(encoding="utf-8")).items()}
    for name, value in (stated or {}).items():
        if name not in known:
            raise SpecError(f"no rate '{name}'", where="rates", hint=nearest(name, known))
        if value <= 0:
            raise SpecError("a rate is above zero", where=f"rates.{name}", got=value)
        known[name] = Rate(value=value, unit=known[name].unit, kind="stated", source="the scenario")
    return Rates(known)
