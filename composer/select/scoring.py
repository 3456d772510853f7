"""Scores as selectors read them: the values of one score, by its name, or an error that lists what there is."""

from __future__ import annotations

from typing import NoReturn

import polars as pl

from composer.candidates import Candidates, Key
from composer.errors import SpecError


def values_of(rows: Candidates, score: str, table: pl.DataFrame | None, *, key: Key) -> pl.DataFrame | None:
    """Return the values of a score with the place ``at`` of their row or instruction, or None where the table has none.

    Examples
    --------
    >>> rows = Candidates(pl.DataFrame({"sample_id": ["a", "b"], "instruction_id": ["i", "j"]}))
    >>> table = pl.DataFrame({"sample_id": ["b", "b"], "score": ["ifd", "length"], "value": [0.7, 9.0]})
    >>> values_of(rows, "ifd", table, key="sample_id").rows()
    [(1, 0.7)]
    >>> values_of(rows, "insinfo", table, key="sample_id") is None
    True
    """
    if table is None:
        return None
    found = rows.scores_in(table, key).filter(pl.col("score") == score)
    if found.is_empty() and not (table["score"] == score).any():
        return None
    return found.select("at", "value")


def refuse(score: str, *tables: pl.DataFrame | None, hint: str) -> NoReturn:
    """Say that no table has the score, and which scores there are.

    Raises
    ------
    SpecError
        Always.
    """
    there = sorted({name for table in tables if table is not None for name in table["score"].unique()})
    raise SpecError(f"no score '{score}'", where="select.score", got=", ".join(there) or "no scores", hint=hint)
