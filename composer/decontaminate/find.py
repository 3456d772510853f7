"""One pass over the rows to train on, and for each evaluation set which of them hold its texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from composer.decontaminate.known import Known, Said
from composer.decontaminate.spec import VALIDATION, Decontaminate, EvaluationSet
from composer.dedup.ngrams import chunks, ngrams, words
from composer.dedup.rows import SLICE, TRAINED, Part, joined, masked
from composer.ingest import rows as raw_rows
from composer.ingest.raw import Mended
from composer.progress import bar

EXAMPLES = 3  # of each evaluation set in each source


@dataclass(frozen=True)
class Contamination:
    """Which rows are contaminated by any set, (n,) over all rows of all parts, and the report on each set."""

    mask: NDArray[np.bool_]
    report: dict[str, Any]


def find_contamination(parts: Sequence[Part], *, spec: Decontaminate, among: NDArray[np.bool_] | None = None) -> Contamination:
    """Look for the texts of evaluation sets in the rows to train on: all of them, or those of a mask over all parts' rows.

    Returns
    -------
    The report has one entry for each set: ``texts`` and ``ngrams`` it consists of, ``too_short`` lines that are not looked for,
    ``common`` n-grams that are found in too many rows to say anything, and ``sources``, by name, with the number of
    contaminated ``rows`` and the first of them as ``examples`` (``row`` in its part, and a ``text`` that was found).

    Raises
    ------
    SourceError
        Where an evaluation set cannot be read.
    """
    sizes = [part.n_rows for part in parts]
    looked = np.repeat([part.role in TRAINED for part in parts], sizes) & (True if among is None else among)
    slices = {each.name: _texts(each) for each in spec.against}
    if spec.validation:
        slices[VALIDATION] = joined([part for part in parts if part.role == "validation"])()
    searches = {name: _Search(Known.of(texts, n=spec.ngram, shortest=spec.shortest), spec) for name, texts in slices.items()}
    _go_through(masked(joined(parts), looked)(), tuple(searches.values()), total=int(looked.sum()))
    mask = np.zeros(len(looked), dtype=np.bool_)
    report: dict[str, Any] = {}
    begins = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    for name, search in searches.items():
        found = np.flatnonzero(looked)[search.contaminated()]
        mask[found] = True
        of_part = np.split(found, np.searchsorted(found, begins[1:-1]))
        sources = {
            part.source: {"rows": len(rows), "examples": _examples(part, rows - begin, search)}
            for part, rows, begin in zip(parts, of_part, begins.tolist(), strict=False)
            if len(rows)
        }
        report[name] = {**search.counts(), "sources": sources}
    return Contamination(mask, report)


def _examples(part: Part, rows: NDArray[np.int64], search: _Search) -> list[dict[str, Any]]:
    first = rows[:EXAMPLES]
    wanted = np.zeros(part.n_rows, dtype=np.bool_)
    wanted[first] = True
    texts = (text for slice_ in masked(part.texts, wanted)() for text in slice_)
    return [{"row": row, "text": found} for row, found in zip(first.tolist(), search.excerpts(texts), strict=True)]


def _go_through(slices: Iterator[pl.Series], searches: Sequence[_Search], *, total: int) -> None:
    begin = 0
    with bar("decontaminate", total=total) as shown:
        for texts in (chunk for slice_ in slices for chunk in chunks(slice_)):
            said = Said(texts, searches[0].known.n)
            for search in searches:
                search.look(said, begin)
            begin += len(texts)
            shown.advance(len(texts))


@dataclass
class _Search:
    """One set, and where its grams were found: the rows, grams and numbers of places, as long as a gram is evidence."""

    known: Known
    spec: Decontaminate
    rows_with: NDArray[np.int64] = field(init=False)
    found: list[NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows_with = np.zeros(len(self.known.hashes), dtype=np.int64)

    def look(self, said: Said, begin: int) -> None:
        """Look through rows that are numbered from ``begin`` on."""
        row, gram = self.known.find(said)
        if not len(row):
            return
        pairs, times = np.unique(row * len(self.rows_with) + gram, return_counts=True)
        row, gram = np.divmod(pairs, len(self.rows_with))
        self.rows_with += np.bincount(gram, minlength=len(self.rows_with))
        useful = self._evidence[gram]
        self.found.append(np.stack([row + begin, gram, times, np.diff(said.grams.offsets)[row]])[:, useful])

    @property
    def _evidence(self) -> NDArray[np.bool_]:
        most = np.iinfo(np.int64).max if self.spec.common is None else self.spec.common
        return np.asarray(self.rows_with <= most)

    def contaminated(self) -> NDArray[np.int64]:
        """Return the numbers of the contaminated rows, in order."""
        if not self.found:
            return np.zeros(0, dtype=np.int64)
        row, gram, times, n_grams = np.concatenate(self.found, axis=1)
        row, times, n_grams = (each[self._evidence[gram]] for each in (row, times, n_grams))
        rows, first, group = np.unique(row, return_index=True, return_inverse=True)
        share = np.bincount(group, weights=times, minlength=len(rows)) / n_grams[first]
        return np.asarray(rows[share > self.spec.min_share], dtype=np.int64)

    def counts(self) -> dict[str, int]:
        """Return what the set consists of."""
        known = self.known
        return {
            "texts": known.n_texts,
            "ngrams": len(known.hashes),
            "too_short": known.too_short,
            "common": int((~self._evidence).sum()),
        }

    def excerpts(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield for each text the first words of it that the set has."""
        evidence = self._evidence
        for text in texts:
            _, gram = self.known.find(Said(pl.Series([text]), self.known.n))
            wanted = gram[evidence[gram]][0]
            lines = [text, *text.split("\n")]
            grams = ngrams(pl.Series(lines), self.known.n, symbols=False)
            place = int(np.flatnonzero(grams.hashes == self.known.hashes[wanted])[0])
            line = int(np.searchsorted(grams.offsets, place, side="right")) - 1
            said, _ = words(pl.Series([lines[line]]), symbols=False)
            begin = place - int(grams.offsets[line])
            yield " ".join(said[begin : begin + self.known.n])


def _texts(source: EvaluationSet) -> Iterator[pl.Series]:
    """Yield the strings of all rows that an evaluation set wants."""
    strings = (text for row in islice(_wanted(source), source.limit) for text in _strings(row))
    while batch := list(islice(strings, SLICE)):
        yield pl.Series([text.encode(errors="replace").decode() for text in batch], dtype=pl.String)


def _wanted(source: EvaluationSet) -> Iterator[object]:
    for row in raw_rows(source):
        value = row.value if isinstance(row, Mended) else row
        if not isinstance(value, Mapping):
            yield value
        elif all(_is(value.get(column), wanted) for column, wanted in source.where.items()):
            yield {column: each for column, each in value.items() if not source.only or column in source.only}


def _is(value: object, wanted: str) -> bool:
    return value == wanted or (isinstance(value, (bool, int, float)) and json.dumps(value) == wanted)


def _strings(value: object) -> Iterator[str]:
    left: list[object] = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, Mapping):
            left += reversed(list(each.values()))
        elif isinstance(each, (list, tuple)):
            left += reversed(each)
