"""Interference: old rows near new ones that answer otherwise. Near tasks with other answers are what a model forgets most."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.errors import InputError
from composer.spec import rng

Rows = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Prompts and answers as unit vectors, float32 (n, d) and (n, e): row i of both is one sample."""

_BLOCK = 1024  # rows compared at once: bounds the memory


def interference(old: Rows, new: Rows, *, near: float) -> NDArray[np.float64]:
    """Return of every old row how far the new rows near it answer otherwise.

    ``max over s of max(0, 1 - C(p, p_s) / near) * min(C(a, a_s), 1)`` for an old prompt p with the answer a and new rows s, C
    being ``1 - cos``: one where a new row has the same prompt and an answer that has nothing in common, zero where no new row
    lies within ``near`` or those that do answer alike.

    Returns
    -------
    (m,) float64 in [0, 1] for m old rows.

    Raises
    ------
    InputError
        For prompts and answers of different numbers or spaces, and a ``near`` that is not above zero.

    Examples
    --------
    >>> x, y = np.eye(2, dtype=np.float32)
    >>> interference((np.stack([x, x, y]), np.stack([x, y, y])), (x[None], y[None]), near=0.5).tolist()
    [1.0, 0.0, 0.0]
    """
    _check(old, new, near)
    out = np.zeros(len(old[0]))
    for at in range(0, len(out) if len(new[0]) else 0, _BLOCK):
        prompts, answers = (each[at : at + _BLOCK].astype(np.float64) for each in old)
        nearness = np.maximum(1 - (1 - prompts @ new[0].astype(np.float64).T) / near, 0)
        contrast = np.clip(1 - answers @ new[1].astype(np.float64).T, 0, 1)
        out[at : at + _BLOCK] = np.minimum((nearness * contrast).max(axis=1), 1)
    return out


def some_rows(rows: pl.DataFrame, *, n: int, seed: int) -> pl.DataFrame:
    """Return at most ``n`` rows of every domain, spread evenly over its instructions, whatever their order.

    Parameters
    ----------
    rows
        ``sample_id``, ``domain`` and ``instruction_id``; other columns are kept.
    """
    ordered = rows.sort("sample_id")
    chance = pl.Series("chance", rng(seed, "some rows").random(len(ordered)))
    place = pl.col("chance").rank("ordinal").over("domain", "instruction_id")
    turn = pl.struct(place.alias("place"), "chance").rank("ordinal").over("domain")
    return ordered.with_columns(chance).filter(turn <= n).drop("chance")


def _check(old: Rows, new: Rows, near: float) -> None:
    if not near > 0:
        raise InputError("a distance within which rows are near", where="interference", expected="above 0", got=near)
    for what, (prompts, answers) in (("old", old), ("new", new)):
        if len(prompts) != len(answers):
            got = f"{len(prompts)} and {len(answers)}"
            raise InputError(f"as many {what} prompts as answers", where="interference", expected=str(len(prompts)), got=got)
    if any(mine.shape[1:] != other.shape[1:] for mine, other in zip(old, new, strict=True)):
        got = f"{[each.shape for each in old]} and {[each.shape for each in new]}"
        raise InputError("old and new rows of different spaces", where="interference", expected="equal dimensions", got=got)
