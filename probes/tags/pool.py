"""The pool of known tags: every spelling that was met, the name it goes by, and in how many texts it was met.

A run that is given a pool calls a spelling by the name that the pool has for it, so that tags of several runs are of one
vocabulary and the same texts have the same tags again. A run never changes the pool that it was given: it leaves the pool as it
is afterwards among its own files, for the next run to name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from composer.errors import SourceError
from composer.fingerprint import sha256
from composer.tables import Schema, write

KNOWN: Schema = {
    "tag": pl.String,  # a spelling
    "name": pl.String,  # the tag it goes by, itself for a name
    "count": pl.UInt64,  # texts that had it, summed over the runs
}


@dataclass(frozen=True)
class Pool:
    """Spellings with their names and counts.

    Examples
    --------
    >>> pool = Pool().grown({"sort": "sort", "sorting": "sort"}, {"sort": 3, "sorting": 1})
    >>> pool.names, pool.grown({"sort": "sort"}, {"sort": 2}).counts
    ({'sort': 'sort', 'sorting': 'sort'}, {'sort': 5, 'sorting': 1})
    """

    names: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str, *, spell: Callable[[str], str]) -> Pool:
        """Read a pool from Parquet or JSON lines with the column ``tag``, and ``name`` and ``count`` where it has them.

        Tags are spelt as this run spells; what is then the same is counted together.

        Raises
        ------
        SourceError
            For a missing or broken file, a tag without letters and numbers, or one that goes by two names.
        """
        names: dict[str, str] = {}
        counts: dict[str, int] = {}
        for row, (raw_tag, raw_name, count) in enumerate(_table(path).iter_rows()):
            tag, name = spell(raw_tag), spell(raw_name)
            if not tag or not name:
                got = f"{raw_tag!r}, named {raw_name!r}"
                raise SourceError("a tag without letters and numbers", where=f"{path}, row {row}", got=got)
            if names.setdefault(tag, name) != name:
                raise _two_names(path, tag, names[tag], name)
            counts[tag] = counts.get(tag, 0) + count
        for name in sorted(set(names.values())):
            if names.setdefault(name, name) != name:
                raise _two_names(path, name, name, names[name])
        return cls(names, {tag: counts.get(tag, 0) for tag in names})

    def grown(self, names: Mapping[str, str], counts: Mapping[str, int]) -> Pool:
        """Return the pool with what a run has met: the names of its spellings, and how many texts had each."""
        every = {**self.names, **names}
        return Pool(every, {tag: self.counts.get(tag, 0) + counts.get(tag, 0) for tag in every})

    def write(self, path: Path) -> None:
        """Write the pool, in the order of the alphabet."""
        rows = [(tag, self.names[tag], self.counts[tag]) for tag in sorted(self.names)]
        write(pl.DataFrame(rows, schema=dict(KNOWN), orient="row"), path, KNOWN)


def content(path: str) -> str:
    """Return what identifies a pool: the sha256 of its file.

    Raises
    ------
    SourceError
        Where there is no such file.
    """
    return sha256(_file(path))


def _two_names(path: str, tag: str, *names: str) -> SourceError:
    hint = "mend the file, or begin a new pool where lemmas were switched on"
    got = f"{tag}: {' and '.join(names)}"
    return SourceError("a tag that goes by two names", where=path, got=got, expected="one name per tag", hint=hint)


def _file(path: str) -> Path:
    file = Path(path)
    if not file.is_file():
        hint = "name the pool.parquet of an earlier run, or leave pool out to begin a new one"
        raise SourceError("no such pool of tags", where="tags.pool", got=path, hint=hint)
    return file


def _table(path: str) -> pl.DataFrame:
    file = _file(path)
    try:
        table = pl.read_ndjson(file) if file.suffix == ".jsonl" else pl.read_parquet(file)
        for column in {"name", "count"} - set(table.columns):
            table = table.with_columns(pl.lit(None).alias(column))
        return table.select(
            pl.col("tag").cast(pl.String).fill_null(""),
            pl.coalesce(pl.col("name").cast(pl.String), "tag"),
            pl.col("count").cast(pl.UInt64).fill_null(0),
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        expected = "Parquet, or .jsonl, with the column tag, and name and count where known"
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise SourceError(f"not a pool of tags: {line}", where=path, expected=expected) from None
