"""A number of rows of every file: whole passes over it, and a part of one more, as ms-swift, Oumi and open-instruct do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from composer.errors import InputError
from composer.export.rules import Numbers, concatenated


def resize(sizes: Sequence[int], wanted: Sequence[int], *, states: Iterable[np.random.RandomState | None]) -> Numbers:
    """Return ``wanted`` row numbers of every file: whole passes, then the rest.

    The rest is the file's first rows, or the first of a permutation by the file's state. A state is asked for when its file
    comes, so that several files may share one.

    Raises
    ------
    InputError
        Where rows are wanted of a file that has none.

    References
    ----------
    ms-swift 4.6, ``dataset#N``; Oumi 0.9, ``sample_count``; open-instruct, ``dataset_mixer_list``.

    Examples
    --------
    >>> resize([3, 4], [5, 2], states=[None, None]).tolist()
    [0, 1, 2, 0, 1, 3, 4]
    """
    parts = []
    for i, (size, n, state) in enumerate(zip(sizes, wanted, states, strict=True)):
        if n and not size:
            raise InputError("rows are wanted of a file that has none", where=f"file {i}", got=f"{n} rows")
        passes, rest = divmod(n, size) if size else (0, 0)
        last = np.arange(rest) if state is None or not rest else state.permutation(size)[:rest]
        parts.append(np.concatenate([np.tile(np.arange(size), passes), last]))
    return concatenated(parts, sizes)
