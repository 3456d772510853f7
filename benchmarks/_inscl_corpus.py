"""A corpus in the shape that InsCL's released code reads: tasks of few instructions and many rows, their vectors and tags.

Every task has as many distinct instructions, each of its own number of rows. Vectors lie around topics that the tasks share in
unlike parts. Tags are drawn from concepts, few of them frequent; a concept has two to eight spellings whose vectors are near,
so that four in seven concepts make a cluster once enough of their spellings were seen.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from composer.spec import rng

DIMS = 768
SPELLINGS = (2, 3, 4, 5, 6, 7, 8)  # of the concepts, in turns
NEAR = 0.15  # how far a spelling lies from its concept: two are about 0.02 apart, two concepts about 1
EPS, MIN_SAMPLES = 0.1, 5
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))


def write(folder: Path, *, tasks: int, instructions: int, rows: int, concepts: int, seed: int) -> None:
    """Write ``<task>.jsonl`` (rows), ``<task>.tags.pkl``, ``vectors.pkl`` and the forms of the tags with their vectors."""
    forms, vectors = vocabulary(concepts, seed)
    np.save(folder / "forms.npy", vectors)
    (folder / "forms.json").write_text(json.dumps(forms), encoding="utf-8")
    prose = _prose(seed)
    encoded: dict[str, Any] = {}
    for task in range(tasks):
        name, dice = f"task {task}", rng(seed, "corpus", task)
        begin = dice.integers(len(prose) - 200, size=instructions).tolist()
        texts = [f"{name}, {k}. {prose[at : at + 180]}" for k, at in enumerate(begin)]
        sizes = 1 + dice.multinomial(rows - instructions, dice.dirichlet(np.ones(instructions)))
        _write_rows(folder / f"{name}.jsonl", texts, dice.permutation(np.repeat(np.arange(instructions), sizes)), prose, dice)
        encoded[name] = {"instructions": texts, "vectors": cloud(instructions, task, seed), "shares": sizes / rows}
        tags = [[_raw(forms[i]) for i in own] for own in drawn(instructions, concepts, dice)]
        tagged = [{"instruction": text, "tags": own} for text, own in zip(texts, tags, strict=True)]
        (folder / f"{name}.tags.pkl").write_bytes(pickle.dumps(tagged))
    (folder / "vectors.pkl").write_bytes(pickle.dumps(encoded))


def vocabulary(concepts: int, seed: int) -> tuple[list[str], NDArray[np.float32]]:
    """Return the forms of all tags, the spellings of a concept one after another, and their unit vectors."""
    dice, size = rng(seed, "corpus", "vocabulary"), np.resize(SPELLINGS, concepts)
    words = ["".join(_LETTERS[dice.integers(26, size=9)]) for _ in range(concepts)]
    forms = [f"{word} {_LETTERS[k]}" for word, n in zip(words, size.tolist(), strict=True) for k in range(n)]
    centres = np.repeat(_unit(dice.normal(size=(concepts, DIMS))), size, axis=0)
    return forms, _unit(centres + NEAR * _unit(dice.normal(size=centres.shape))).astype(np.float32)


def drawn(n: int, concepts: int, dice: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return three to six forms for each of n instructions, no concept twice."""
    spellings = np.resize(SPELLINGS, concepts)
    first = np.cumsum(spellings) - spellings
    weight = -0.7 * np.log(np.arange(1, concepts + 1))
    out = []
    for k in dice.integers(3, 7, size=n).tolist():
        of = np.argpartition(-(weight + dice.gumbel(size=concepts)), k)[:k]  # the k largest are k draws without replacement
        out.append(first[of] + dice.integers(spellings[of]))
    return out


def column(flat: pl.Series, size: ArrayLike) -> pl.Series:
    """Return a column of lists, of which the flat one has the items and ``size`` their numbers."""
    offsets = np.concatenate([[0], np.cumsum(size)])
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets), flat.to_arrow()))


def cloud(n: int, task: int, seed: int) -> NDArray[np.float32]:
    """Return n points on the sphere around sixty topics of forty dimensions each, with noise."""
    world, dice = rng(seed, "corpus", "topics"), rng(seed, "corpus", "cloud", task)
    topics, spread = world.normal(size=(60, DIMS)), world.normal(size=(60, 40, DIMS)) / np.sqrt(40)
    of = dice.choice(60, size=n, p=dice.dirichlet(np.full(60, 0.5)))
    own = np.stack([dice.normal(size=40) @ spread[topic] for topic in of])
    return _unit(topics[of] + own + 0.4 * dice.normal(size=(n, DIMS))).astype(np.float32)


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def _raw(form: str) -> str:
    """Return a tag as a model would spell it; cleaning makes the form of it."""
    return form.capitalize().replace(" ", "-")


def _prose(seed: int) -> str:
    dice = rng(seed, "corpus", "prose")
    return " ".join("".join(_LETTERS[dice.integers(26, size=k)]) for k in dice.integers(2, 10, size=40_000))


def _write_rows(path: Path, texts: list[str], of: NDArray[np.int64], prose: str, dice: np.random.Generator) -> None:
    begin = dice.integers(len(prose) - 300, size=(len(of), 2)).tolist()
    with path.open("w", encoding="utf-8") as file:
        for i, (k, (a, b)) in enumerate(zip(of.tolist(), begin, strict=True)):
            said = {"input": prose[a : a + 200], "output": prose[b : b + 60]}
            file.write(json.dumps({"id": f"{path.stem}-{i}", "instruction": [texts[k]], **said}) + "\n")
