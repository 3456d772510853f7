"""What tables say of given ids: a value for every id, or an error that says for how many there is none."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.errors import InputError


def look_up(ids: pl.Series, table: pl.DataFrame, value: str, *, where: str) -> pl.Series:
    """Return the table's value of every id, in the order of the ids; the ids' name is the name of the table's key.

    Raises
    ------
    InputError
        Where an id stands in the table not once but never, or several times.

    Examples
    --------
    >>> table = pl.DataFrame({"instruction_id": ["i", "j"], "cluster": [4, 5]})
    >>> look_up(pl.Series("instruction_id", ["j", "i", "j"]), table, "cluster", where="select").to_list()
    [5, 4, 5]
    """
    found = ids.to_frame().join(table.select(ids.name, value), on=ids.name, how="left", maintain_order="left")
    if found.height != ids.len():
        raise InputError(f"{ids.name} with several rows of {value}", where=where, expected="one row for each")
    if missing := found[value].null_count():
        got = f"none for {missing} of {ids.len()}"
        raise InputError(f"{ids.name} without {value}", where=where, expected="one row for each", got=got)
    return found[value]


def vectors_of(ids: pl.Series, table: pl.DataFrame, *, where: str) -> NDArray[np.float32]:
    """Return the vectors of ids, (len(ids), d) float32.

    Raises
    ------
    InputError
        For ids without a vector, and for vectors of several lengths.
    """
    found = look_up(ids, table, "vector", where=where)
    lengths = found.list.len().unique().sort().to_list()
    if len(lengths) != 1 or not lengths[0]:
        got = ", ".join(map(str, lengths))
        raise InputError("vectors of several lengths", where=where, expected="one length above zero", got=got)
    return found.list.explode().to_numpy().reshape(ids.len(), lengths[0]).astype(np.float32)


def directions(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rows at unit length, so that their products are cosines; a row of zeros stays so, at right angles to all."""
    x = vectors.astype(np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1))
